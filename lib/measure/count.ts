import { MOBILENET_V2_STAGES, type MobileNetV2Config, round8 } from '../model/baselines/mobilenetV2';
import type { ViTConfig } from '../model/baselines/vit';
import type { EdgeViTConfig } from '../model/config';
import { PATCHES, stageBlocks } from '../model/edgevit';
import type { Buffers, ForwardOptions, Model, ParamSpec, Params, Part, Tap } from '../model/module';
import { type Tensor, tf } from '../tensor/tf';

/**
 * Parameters and multiply-accumulates per picture, counted twice: by arithmetic on the configuration, and from what the
 * built model holds and does. MACs are those of convolutions, linear layers and the two products of attention, which is
 * what the literature calls FLOPs.
 */

export interface Count {
  params: number;
  macs: number;
  /** What fvcore adds for norms: 5 per element of a layer or group norm, 2 of a batch norm. `macs` leaves it out. */
  normOps: number;
}

/** Counts by the name of the module that owns the parameters or does the work. */
export type Counts = Map<string, Count>;

/** What an architecture needs to be counted; a `Model` is one. */
export type Countable = Pick<Model, 'name' | 'config' | 'numClasses' | 'inputSize'>;

/** The sum over a module and all inside it; over the whole network by default. */
export function totalCount(counts: Counts, module = ''): Count {
  const total: Count = { params: 0, macs: 0, normOps: 0 };
  for (const [name, count] of counts) {
    if (module === '' || name === module || name.startsWith(`${module}.`)) add(total, count);
  }
  return total;
}

function add(total: Count, count: Partial<Count>): void {
  total.params += count.params ?? 0;
  total.macs += count.macs ?? 0;
  total.normOps += count.normOps ?? 0;
}

/** Counts by arithmetic alone: no layer is built and no tensor exists. */
export function countConfig({ name, config, numClasses, inputSize }: Countable): Counts {
  const tally = new Tally();
  if (name === 'mobilenet-v2') countMobileNetV2(tally, config as MobileNetV2Config, numClasses, inputSize);
  else if (name === 'vit-tiny') countViT(tally, config as ViTConfig, numClasses, inputSize);
  else if (name.startsWith('article')) countArticle(tally, numClasses, inputSize);
  else countEdgeViT(tally, config as EdgeViTConfig, numClasses, inputSize);
  return tally.counts;
}

/** Counts what the built model declares, and what it does to one picture, seen through taps. Runs it once. */
export function countModel(model: Model): Counts {
  return countBuilt(model, [1, ...model.inputSize, 3]);
}

/** As `countModel`, for a block or a layer by itself and one input [h, w, c]. */
export function countPart(part: Part, inputShape: readonly [number, number, number]): Counts {
  return countBuilt(part, [1, ...inputShape]);
}

function countBuilt(built: Built, inputShape: number[]): Counts {
  const counts: Counts = new Map();
  const countOf = (module: string): Count => {
    if (!counts.has(module)) counts.set(module, { params: 0, macs: 0, normOps: 0 });
    return counts.get(module)!;
  };
  for (const { name, shape } of built.params)
    add(countOf(name.slice(0, Math.max(0, name.lastIndexOf('.')))), { params: product(shape) });
  const weights = new Map(built.params.map(spec => [spec.name, spec]));
  walk(built, inputShape, (layer, kind, input, output) => {
    const weight = weights.get(layer === '' ? 'weight' : `${layer}.weight`);
    if (kind === 'DotProductAttention') add(countOf(layer), { macs: 2 * input.shape[1]! * output.size });
    else if (kind === 'LayerNorm' || kind === 'GroupNorm') add(countOf(layer), { normOps: 5 * output.size });
    else if (kind === 'BatchNorm2D') add(countOf(layer), { normOps: 2 * output.size });
    // An output is a sum over all axes of the weight but the last, or over the kernel alone where channels don't mix.
    else if (weight?.kind === 'conv' || weight?.kind === 'linear')
      add(countOf(layer), { macs: output.size * product(weight.shape.slice(0, -1)) });
    else if (weight?.kind === 'depthwise')
      add(countOf(layer), { macs: output.size * product(weight.shape.slice(0, 2)) });
    else if (weight?.kind === 'localProp') add(countOf(layer), { macs: output.size });
  });
  return counts;
}

/** A `Model` or a `Part`. */
interface Built {
  readonly params: readonly ParamSpec[];
  readonly buffers: readonly ParamSpec[];
  forward(x: Tensor, params: Params, buffers: Buffers, options: ForwardOptions): unknown;
}

/** Runs a model once on zeros, weights included, for what taps see of it: names, types and shapes. */
export function walkLayers(model: Model, pictures: number, tap: Tap): void {
  walk(model, [pictures, ...model.inputSize, 3], tap);
}

function walk(built: Built, inputShape: number[], tap: Tap): void {
  tf.tidy(() => {
    const zeros = (specs: readonly ParamSpec[]) =>
      Object.fromEntries(specs.map(spec => [spec.name, tf.zeros(spec.shape)]));
    built.forward(tf.zeros(inputShape), zeros(built.params), zeros(built.buffers), { train: false, tap });
  });
}

const product = (values: readonly number[]): number => values.reduce((a, b) => a * b, 1);

/** The arithmetic of each layer type. `pixels` are those of the output. */
class Tally {
  readonly counts: Counts = new Map();

  conv(name: string, from: number, to: number, kernel: number, pixels: number, bias = true): void {
    this.set(name, from * to * kernel ** 2 + (bias ? to : 0), from * to * kernel ** 2 * pixels);
  }

  depthwise(name: string, dim: number, kernel: number, pixels: number, bias = true): void {
    this.set(name, dim * kernel ** 2 + (bias ? dim : 0), dim * kernel ** 2 * pixels);
  }

  localProp(name: string, dim: number, rate: number, pixels: number): void {
    this.set(name, dim * rate ** 2 + dim, dim * pixels);
  }

  linear(name: string, from: number, to: number, tokens: number, bias = true): void {
    this.conv(name, from, to, 1, tokens, bias);
  }

  /** q kᵀ and its product with v. */
  attention(name: string, dim: number, tokens: number): void {
    this.set(name, 0, 2 * tokens ** 2 * dim);
  }

  batchNorm(name: string, dim: number, pixels: number): void {
    this.set(name, 2 * dim, 0, 2 * dim * pixels);
  }

  tokenNorm(name: string, dim: number, tokens: number): void {
    this.set(name, 2 * dim, 0, 5 * dim * tokens);
  }

  set(name: string, params: number, macs: number, normOps = 0): void {
    this.counts.set(name, { params, macs, normOps });
  }
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
    blocks.forEach((block, j) => countBlock(tally, `blocks${i + 1}.${j}`, block, pixels));
    from = dim;
  });
  tally.batchNorm('norm', from, pixels);
  tally.linear('head', from, numClasses, 1);
}

function countBlock(
  tally: Tally,
  name: string,
  block: ReturnType<typeof stageBlocks>[number][number],
  pixels: number,
): void {
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

function countArticle(tally: Tally, numClasses: number, [height, width]: readonly [number, number]): void {
  const dim = 48;
  const pixels = (height * width) / 16;
  tally.conv('downsample1.downsample', 3, dim, 4, pixels);
  tally.depthwise('patchembeding1.embed', dim, 3, pixels);
  tally.conv('residual_add1.module.conv1', dim, dim, 1, pixels);
  tally.depthwise('residual_add1.module.conv2', dim, 3, pixels);
  tally.conv('residual_add1.module.conv3', dim, dim, 1, pixels);
  tally.batchNorm('residual_add1.module.norm1', dim, pixels);
  tally.batchNorm('residual_add1.module.norm2', dim, pixels);
  tally.linear('residual_add1_1.module.fc1', dim, 4 * dim, pixels);
  tally.linear('residual_add1_1.module.fc2', 4 * dim, dim, pixels);
  tally.depthwise('patchembeding2.embed', dim, 3, pixels);
  tally.linear('residual_add2.module.qkv', dim, 3 * dim, pixels / 16);
  tally.attention('residual_add2.module.attention', dim, pixels / 16);
  tally.localProp('residual_add2.module.LocalProp', dim, 4, pixels);
  tally.linear('residual_add2.module.proj', dim, dim, pixels);
  tally.linear('fc', dim * pixels, numClasses, 1);
}

function countMobileNetV2(
  tally: Tally,
  { width }: MobileNetV2Config,
  numClasses: number,
  size: readonly [number, number],
): void {
  let sides = [...size];
  let dim = round8(32 * width);
  let index = 0;
  const halve = (stride: number) => {
    sides = sides.map(side => Math.ceil(side / stride));
    return product(sides);
  };
  const convNorm = (name: string, kernel: number, from: number, to: number, pixels: number) => {
    if (from === 0) tally.depthwise(`${name}.0`, to, kernel, pixels, false);
    else tally.conv(`${name}.0`, from, to, kernel, pixels, false);
    tally.batchNorm(`${name}.1`, to, pixels);
  };
  convNorm(`features.${index++}`, 3, 3, dim, halve(2));
  for (const [expansion, channels, repeats, firstStride] of MOBILENET_V2_STAGES) {
    for (let i = 0; i < repeats; i++, index++) {
      const at = `features.${index}.conv`;
      const hidden = dim * expansion;
      let step = 0;
      if (expansion > 1) convNorm(`${at}.${step++}`, 1, dim, hidden, product(sides));
      const pixels = halve(i === 0 ? firstStride : 1);
      convNorm(`${at}.${step++}`, 3, 0, hidden, pixels);
      dim = round8(channels * width);
      tally.conv(`${at}.${step++}`, hidden, dim, 1, pixels, false);
      tally.batchNorm(`${at}.${step}`, dim, pixels);
    }
  }
  const last = round8(1280 * Math.max(1, width));
  convNorm(`features.${index}`, 1, dim, last, product(sides));
  tally.linear('classifier.1', last, numClasses, 1);
}

function countViT(
  tally: Tally,
  { patch, dim, depth, mlpRatio }: ViTConfig,
  numClasses: number,
  [height, width]: readonly [number, number],
): void {
  const patches = (height * width) / patch ** 2;
  const tokens = patches + 1;
  const hidden = Math.floor(dim * mlpRatio);
  tally.set('', dim + dim * tokens, 0); // class token and position embedding
  tally.conv('patch_embed.proj', 3, dim, patch, patches);
  for (let i = 0; i < depth; i++) {
    const at = `blocks.${i}`;
    tally.tokenNorm(`${at}.norm1`, dim, tokens);
    tally.linear(`${at}.attn.qkv`, dim, 3 * dim, tokens);
    tally.attention(`${at}.attn.attention`, dim, tokens);
    tally.linear(`${at}.attn.proj`, dim, dim, tokens);
    tally.tokenNorm(`${at}.norm2`, dim, tokens);
    tally.linear(`${at}.mlp.fc1`, dim, hidden, tokens);
    tally.linear(`${at}.mlp.fc2`, hidden, dim, tokens);
  }
  tally.tokenNorm('norm', dim, tokens);
  tally.linear('head', dim, numClasses, 1);
}
