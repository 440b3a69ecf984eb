import { z } from 'zod';
import { type Tensor, type Tensor4D, tf } from '../tensor/tf';
import { flag, oddInteger, positive } from '../util/options';
import type { Tally } from './count';
import {
  attention,
  batchNorm,
  conv2d,
  depthwiseConv,
  depthwiseTransposedConv,
  dropPath,
  expandAndShrink,
  groupNorm,
  layerNorm,
  linear,
  pointwiseConv,
  type Residual,
  sampleTopLeft,
  toTopLeft,
  upsampleBilinear,
  upsampleNearest,
} from './layers';
import type { Layer, Scope } from './module';

/**
 * The settings that all blocks of a network have in common, where what they decide is built and counted: with an entry here a setting has its
 * option, its type and its place in run.json, and the contract suite walks it. The defaults are the official code's.
 */
export const BLOCK_SETTINGS = {
  /** Hidden channels of the FFNs, relative to dims. */
  mlpRatio: positive.default(4),
  /** Whether blocks attend; without, the residual GSA(LN(x)) is gone, position encoding and FFN stay. */
  attention: flag.default(true),
  /** Whether delegates attend to each other; without, each hands on what it saw, and there is no qkv. */
  delegatesAttend: flag.default(true),
  /** What stands for a window in attention: its top-left pixel, mean or maximum. */
  delegate: z.enum(['topleft', 'mean', 'max']).default('topleft'),
  /**
   * How a delegate's result returns to its window: the learned transposed convolution, upsampling without parameters, or not at
   * all: to its top-left pixel alone, and the others get zero.
   */
  localProp: z.enum(['transposed', 'nearest', 'bilinear', 'none']).default('transposed'),
  /** Kernel of LocalAgg's depthwise convolution. */
  localAggKernel: oddInteger.default(5),
  /** A second batch norm in LocalAgg, before its last 1×1 convolution. */
  localAggNorm: flag.default(false),
  /** Norm of patch embedding and LocalProp: per token over channels, or over the whole image. */
  norm: z.enum(['layer', 'group']).default('layer'),
  /** Norms before attention and the FFNs. */
  preNorm: flag.default(true),
  /** Whether attention logits are divided by √headDim. */
  attentionScale: flag.default(true),
  /** How the channels of qkv split. */
  qkvOrder: z.enum(['qkv-head', 'head-qkv']).default('qkv-head'),
  /** Biases of the query, key and value projection. */
  qkvBias: flag.default(true),
  /** Biases of all other convolutions and linear layers, except LocalProp's and the head's, which stay. */
  bias: flag.default(true),
  /** Epsilon of the norms before attention and FFN. */
  blockNormEps: positive.default(1e-6),
  /** Epsilon of the norms of patch embedding and LocalProp. */
  normEps: positive.default(1e-5),
  batchNormEps: positive.default(1e-5),
};

/** The configuration of one block: these settings, and those of its stage. */
export type BlockConfig = z.output<z.ZodObject<typeof BLOCK_SETTINGS>> & {
  dim: number;
  heads: number;
  sampleRate: number;
  localAgg: boolean;
  /** Drop path rate of this block. */
  dropPath: number;
};

/**
 * [b, h, w, in] → [b, h/patch, w/patch, dim]: a convolution whose kernel is its stride, then a norm.
 * EdgeViTs (ECCV 2022) §3.1.
 */
export function patchEmbed(
  scope: Scope,
  inDim: number,
  dim: number,
  patch: number,
  config: Pick<BlockConfig, 'norm' | 'normEps' | 'bias'>,
): Layer {
  const norm = tokenNorm(scope.at('norm'), dim, config);
  const proj = conv2d(scope.at('proj'), inDim, dim, patch, { stride: patch, padding: 0, bias: config.bias });
  return scope.layer('PatchEmbed', (x, ctx) => norm(proj(x, ctx), ctx));
}

/** The Local-Global-Local bottleneck: LocalAgg → GlobalSparseAttn → LocalProp. [b, h, w, c] → the same. §3.2, figure 2. */
export function lglBlock(scope: Scope, config: BlockConfig): Layer {
  const local = config.localAgg ? localAgg(scope.at('LocalAgg'), config) : undefined;
  const global = selfAttn(scope.at('SelfAttn'), config);
  return scope.layer('LGLBlock', (x, ctx) => global(local ? local(x, ctx) : x, ctx));
}

/**
 * Local aggregation: each pixel gathers its neighbourhood by depthwise and pointwise convolutions. [b, h, w, c] → the
 * same. No activation or norm stands between the three convolutions, as in the official code.
 */
export function localAgg(scope: Scope, config: BlockConfig): Layer {
  const { dim, bias } = config;
  const norms = { eps: config.batchNormEps };
  const posEmbed = depthwiseConv(scope.at('pos_embed'), dim, 3, { bias });
  const norm1 = batchNorm(scope.at('norm1'), dim, norms);
  const conv1 = conv2d(scope.at('conv1'), dim, dim, 1, { bias });
  const conv2 = conv2d(scope.at('conv2'), dim, dim, 1, { bias });
  const attn = depthwiseConv(scope.at('attn'), dim, config.localAggKernel, { bias });
  const attnNorm = config.localAggNorm ? batchNorm(scope.at('attn_norm'), dim, norms) : identity;
  const residual1 = dropPath(scope, config.dropPath);
  const norm2 = config.preNorm ? batchNorm(scope.at('norm2'), dim, norms) : identity;
  const mlp = feedForward(scope.at('mlp'), dim, config, 'CMlp');
  const residual2 = dropPath(scope, config.dropPath);
  return scope.layer('LocalAgg', (x, ctx) => {
    x = tf.add(x, posEmbed(x, ctx));
    x = residual1(x, conv2(attnNorm(attn(conv1(norm1(x, ctx), ctx), ctx), ctx), ctx), ctx);
    return residual2(x, mlp(norm2(x, ctx), ctx), ctx);
  });
}

/** Position encoding, global sparse attention, FFN: three residuals. [b, h, w, c] → the same. */
export function selfAttn(scope: Scope, config: BlockConfig): Layer {
  const { dim } = config;
  const preNorm = (name: string) => (config.preNorm ? layerNorm(scope.at(name), dim, config.blockNormEps) : identity);
  const posEmbed = depthwiseConv(scope.at('pos_embed'), dim, 3, { bias: config.bias });
  const attend = config.attention
    ? residual(preNorm('norm1'), globalSparseAttn(scope.at('attn'), config), dropPath(scope, config.dropPath))
    : identity;
  const feed = residual(
    preNorm('norm2'),
    feedForward(scope.at('mlp'), dim, config, 'Mlp'),
    dropPath(scope, config.dropPath),
  );
  return scope.layer('SelfAttn', (x, ctx) => feed(attend(tf.add(x, posEmbed(x, ctx)), ctx), ctx));
}

/**
 * Global sparse attention and local propagation: one delegate per r×r window attends to all others, and a transposed
 * convolution hands its result back to the window. [b, h, w, c] → the same; r divides h and w. With r = 1 every pixel
 * is its own delegate: full attention, and nothing to propagate.
 */
export function globalSparseAttn(scope: Scope, config: BlockConfig): Layer {
  const { dim, sampleRate, bias } = config;
  const attend = config.delegatesAttend ? selfAttention(scope, config) : identity;
  const proj = linear(scope.at('proj'), dim, dim, { bias });
  const sampler = sampleRate > 1 ? delegates(scope.at('sampler'), config) : identity;
  const handBack = sampleRate > 1 ? localPropagation(scope, config, proj) : proj;
  return scope.layer('GlobalSparseAttn', (x, ctx) => handBack(attend(sampler(x, ctx), ctx), ctx));
}

/** All pixels to all pixels: [b, h, w, c] → the same. */
function selfAttention(scope: Scope, { dim, heads, attentionScale, qkvOrder, qkvBias }: BlockConfig): Layer {
  const qkv = linear(scope.at('qkv'), dim, 3 * dim, { bias: qkvBias });
  const attend = attention(scope.at('attention'), { heads, scale: attentionScale ? undefined : 1, order: qkvOrder });
  return (x, ctx) => {
    const [b, h, w, c] = x.shape;
    return tf.reshape(attend(qkv(tf.reshape(x, [b, h * w, c]), ctx), ctx), [b, h, w, c]);
  };
}

/** [b, h, w, c] → [b, h/r, w/r, c]: what stands for each r×r window. The official AvgPool2d(1, r) takes its top-left pixel. */
function delegates(scope: Scope, { delegate, sampleRate: r }: BlockConfig): Layer {
  if (delegate === 'topleft') return scope.layer('AvgPool2D', x => sampleTopLeft(x, r));
  if (delegate === 'mean') return scope.layer('AvgPool2D', x => tf.avgPool(x as Tensor4D, r, r, 'valid'));
  return scope.layer('MaxPool2D', x => tf.maxPool(x as Tensor4D, r, r, 'valid'));
}

/**
 * [b, h/r, w/r, c] → [b, h, w, c]: a delegate's result returns to its window, then norm and projection. With localProp 'none' these come
 * first, on the delegates alone: a norm of zeros is its bias, so that after them the other pixels would get a constant, not zero.
 */
function localPropagation(scope: Scope, config: BlockConfig, proj: Layer): Layer {
  const { dim } = config;
  const propagate = propagation(scope.at('LocalProp'), config);
  const norm = tokenNorm(scope.at('norm'), dim, config);
  if (config.localProp === 'none') return (x, ctx) => propagate(proj(norm(x, ctx), ctx), ctx);
  return (x, ctx) => proj(norm(propagate(x, ctx), ctx), ctx);
}

/** [b, h/r, w/r, c] → [b, h, w, c]. */
function propagation(scope: Scope, { localProp, dim, sampleRate: r }: BlockConfig): Layer {
  if (localProp === 'transposed') return depthwiseTransposedConv(scope, dim, r);
  if (localProp === 'none') return scope.layer('Pad2D', x => toTopLeft(x, r));
  return scope.layer('Upsample', x => (localProp === 'nearest' ? upsampleNearest : upsampleBilinear)(x, r));
}

/**
 * Expand, GELU, shrink. [b, h, w, c] → the same. LocalAgg's is written with 1×1 convolutions (`CMlp`), SelfAttn's with
 * linear layers (`Mlp`): the same arithmetic, but stored and initialised as what they are.
 */
export function feedForward(
  scope: Scope,
  dim: number,
  { mlpRatio, bias }: Pick<BlockConfig, 'mlpRatio' | 'bias'>,
  kind: 'CMlp' | 'Mlp',
): Layer {
  const hidden = Math.floor(dim * mlpRatio);
  const dense = kind === 'CMlp' ? pointwiseConv : linear;
  const fc1 = dense(scope.at('fc1'), dim, hidden, { bias, activation: 'gelu' });
  const fc2 = dense(scope.at('fc2'), hidden, dim, { bias });
  return scope.layer(kind, expandAndShrink(fc1, fc2));
}

/** x + branch(norm(x)), with drop path. */
export function residual(norm: Layer, branch: Layer, add: Residual): Layer {
  return (x, ctx) => add(x, branch(norm(x, ctx), ctx), ctx);
}

const tokenNorm = (scope: Scope, dim: number, config: Pick<BlockConfig, 'norm' | 'normEps'>): Layer =>
  (config.norm === 'layer' ? layerNorm : groupNorm)(scope, dim, config.normEps);

const identity: Layer = (x: Tensor) => x;

/** What `lglBlock` holds and does, by arithmetic alone; `pixels` are those of its stage. */
export function countLglBlock(tally: Tally, name: string, block: BlockConfig, pixels: number): void {
  const { dim, bias, sampleRate, preNorm } = block;
  const hidden = Math.floor(dim * block.mlpRatio);
  if (block.localAgg) {
    const at = `${name}.LocalAgg`;
    tally.depthwise(`${at}.pos_embed`, dim, 3, pixels, bias);
    tally.batchNorm(`${at}.norm1`, dim, pixels);
    tally.conv(`${at}.conv1`, dim, dim, 1, pixels, bias);
    tally.conv(`${at}.conv2`, dim, dim, 1, pixels, bias);
    tally.depthwise(`${at}.attn`, dim, block.localAggKernel, pixels, bias);
    if (block.localAggNorm) tally.batchNorm(`${at}.attn_norm`, dim, pixels);
    if (preNorm) tally.batchNorm(`${at}.norm2`, dim, pixels);
    tally.conv(`${at}.mlp.fc1`, dim, hidden, 1, pixels, bias);
    tally.conv(`${at}.mlp.fc2`, hidden, dim, 1, pixels, bias);
  }
  const at = `${name}.SelfAttn`;
  tally.depthwise(`${at}.pos_embed`, dim, 3, pixels, bias);
  if (block.attention) {
    const delegates = pixels / sampleRate ** 2;
    if (preNorm) tally.tokenNorm(`${at}.norm1`, dim, pixels);
    const projected = block.localProp === 'none' ? delegates : pixels;
    if (block.delegatesAttend) {
      tally.linear(`${at}.attn.qkv`, dim, 3 * dim, delegates, block.qkvBias);
      tally.attention(`${at}.attn.attention`, dim, delegates);
    }
    tally.linear(`${at}.attn.proj`, dim, dim, projected, bias);
    if (sampleRate > 1) {
      if (block.localProp === 'transposed') tally.localProp(`${at}.attn.LocalProp`, dim, sampleRate, pixels);
      tally.tokenNorm(`${at}.attn.norm`, dim, projected);
    }
  }
  if (preNorm) tally.tokenNorm(`${at}.norm2`, dim, pixels);
  tally.linear(`${at}.mlp.fc1`, dim, hidden, pixels, bias);
  tally.linear(`${at}.mlp.fc2`, hidden, dim, pixels, bias);
}
