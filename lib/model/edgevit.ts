import { UserError } from '../util/errors';
import { architecture, DOTCOM, type Reported } from './architecture';
import { countLglBlock, lglBlock, patchEmbed } from './blocks';
import { ablate, EDGEVIT_SETTINGS, type EdgeViTConfig, VARIANTS, type Variant } from './config';
import type { Tally } from './count';
import { batchNorm, dropPathRates, globalAveragePool, linear } from './layers';
import type { Layer, Scope } from './module';

/**
 * EdgeViT: [b, h, w, 3] → logits [b, classes]. Pan et al., "EdgeViTs: Competing Light-weight CNNs on Mobile Devices with
 * Vision Transformers", ECCV 2022, as the official code computes it. The paper's figure 2, read from left to right:
 * four stages of a patch embedding and some Local-Global-Local blocks; norm, pool, head.
 */
export function edgeViT(scope: Scope, config: EdgeViTConfig, numClasses: number): Layer {
  const { dims } = config;
  const patchEmbeds = dims.map((dim, i) =>
    patchEmbed(scope.at(`patch_embed${i + 1}`), dims[i - 1] ?? 3, dim, PATCHES[i], config),
  );
  const stages = stageBlocks(config).map((blocks, i) =>
    blocks.map((block, j) => lglBlock(scope.at(`blocks${i + 1}.${j}`), block)),
  );
  const norm = batchNorm(scope.at('norm'), dims[3], { eps: config.batchNormEps });
  const head = linear(scope.at('head'), dims[3], numClasses);
  return (x, ctx) => {
    stages.forEach((blocks, i) => {
      x = patchEmbeds[i](x, ctx);
      for (const block of blocks) x = block(x, ctx);
    });
    return head(globalAveragePool(norm(x, ctx)), ctx);
  };
}

/** Side of the patches that each stage's embedding merges. */
export const PATCHES = [4, 2, 2, 2] as const;

/** The configuration of every block, by stage. */
export function stageBlocks(config: EdgeViTConfig) {
  const { depths, dims, heads, sampleRates, localAgg, dropPath, ...shared } = config;
  const rates = dropPathRates(
    depths.reduce((a, b) => a + b),
    dropPath,
  );
  return depths.map((depth, i) =>
    Array.from({ length: depth }, () => ({
      ...shared,
      dim: dims[i],
      heads: heads[i],
      sampleRate: sampleRates[i],
      localAgg: localAgg[i],
      dropPath: rates.shift()!,
    })),
  );
}

/** Throws UserError if dims do not split into heads or the image's sides do not split into patches and windows. */
export function checkEdgeViT(name: string, config: EdgeViTConfig, size: readonly [number, number]): void {
  config.dims.forEach((dim, i) => {
    if (dim % config.heads[i] !== 0) {
      throw new UserError(`${name}: the ${dim} channels of stage ${i + 1} do not split into ${config.heads[i]} heads.`);
    }
  });
  const multiple = sideMultiple(config);
  if (size.some(side => side % multiple !== 0)) {
    throw new UserError(
      `${name} cannot take ${size[0]}×${size[1]} images: with sample rates ${config.sampleRates.join(',')} each side must be a multiple of ${multiple}.`,
    );
  }
}

/** What an image's sides must be multiples of: every stage's stride, and times its sample rate where it attends. */
export function sideMultiple(config: Pick<EdgeViTConfig, 'sampleRates' | 'attention'>): number {
  let stride = 1;
  return PATCHES.reduce<number>((multiple, patch, i) => {
    stride *= patch;
    return leastCommonMultiple(multiple, stride * (config.attention ? config.sampleRates[i] : 1));
  }, 1);
}

function leastCommonMultiple(a: number, b: number): number {
  const divisor = (x: number, y: number): number => (y === 0 ? x : divisor(y, x % y));
  return (a * b) / divisor(a, b);
}

function countEdgeViT(
  tally: Tally,
  config: EdgeViTConfig,
  numClasses: number,
  [height, width]: readonly [number, number],
): void {
  let pixels = height * width;
  let from = 3;
  stageBlocks(config).forEach((blocks, i) => {
    const dim = config.dims[i];
    pixels /= PATCHES[i] ** 2;
    tally.tokenNorm(`patch_embed${i + 1}.norm`, dim, pixels);
    tally.conv(`patch_embed${i + 1}.proj`, from, dim, PATCHES[i], pixels, config.bias);
    blocks.forEach((block, j) => countLglBlock(tally, `blocks${i + 1}.${j}`, block, pixels));
    from = dim;
  });
  tally.batchNorm('norm', from, pixels);
  tally.linear('head', from, numClasses, 1);
}

const edgeViTModel = (variant: Variant, reported: readonly Reported[]) =>
  architecture({
    settings: EDGEVIT_SETTINGS,
    published: VARIANTS[variant],
    classes: 1000,
    ablate: ablation => ablate(variant, ablation),
    check: checkEdgeViT,
    build: edgeViT,
    count: countEdgeViT,
    reported,
  });

/**
 * Second hand: the tables of "EdgeViTs" (Pan et al., ECCV 2022) could not be read directly. Its ablations, energy and Galaxy S21
 * latencies are reported by nobody who could be read, and so are missing here.
 */
export const EDGEVIT_MODELS = {
  'edgevit-xxs': edgeViTModel('edgevit-xxs', [
    {
      model: 'EdgeViT-XXS',
      top1: 0.744,
      params: 4.1e6,
      macs: 557e6,
      phoneMs: 41,
      source: `${DOTCOM}; EMOv2, StarNet and SHViT papers`,
    },
    { model: 'EdgeViT-XXS, retrained', top1: 0.7518, source: 'EasyCV model zoo' },
  ]),
  'edgevit-xs': edgeViTModel('edgevit-xs', [
    {
      model: 'EdgeViT-XS',
      top1: 0.775,
      params: 6.7e6,
      macs: 1136e6,
      phoneMs: 62,
      source: `${DOTCOM}; iFormer and LSNet papers`,
    },
  ]),
  'edgevit-s': edgeViTModel('edgevit-s', [
    { model: 'EdgeViT-S', top1: 0.81, params: 11.1e6, macs: 1.9e9, phoneMs: 95, source: DOTCOM },
  ]),
} satisfies Record<Variant, unknown>;
