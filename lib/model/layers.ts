import { type AttentionOptions, ops } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import { UserError } from '../util/errors';
import type { Context, Init, Layer, Scope } from './module';

/**
 * The primitives that all models are made of, one place for each. Activations are [b, h, w, c] or [b, n, c].
 * Builders declare their parameters in state-dict order and start them as PyTorch does unless told otherwise.
 */

/** PyTorch's default for convolutions: kaiming_uniform(a = √5), which comes to ±1/√fanIn, for weight and bias alike. */
export const torchDefault = (fanIn: number): Init => ({ uniform: 1 / Math.sqrt(fanIn) });

/**
 * The vision transformers' trunc_normal_(std 0.02) for linear layers. It truncates at ±2, a hundred standard
 * deviations away: a plain normal.
 */
export const TRUNC_NORMAL: Init = { normal: 0.02 };

const ZEROS: Init = { constant: 0 };
const ONES: Init = { constant: 1 };

export interface WeightOptions {
  bias?: boolean;
  /** Applied to the result, in one pass with the bias. */
  activation?: 'gelu';
  weightInit?: Init;
  biasInit?: Init;
}

export interface ConvOptions extends WeightOptions {
  stride?: number;
  /** Zeros on each side; default (kernel − 1) / 2, which keeps the size at stride 1. */
  padding?: number;
}

/** A layer that multiplies by a matrix: weight [in, out] and bias [out]. */
export type Dense = Layer & { read(ctx: Context): { weight: Tensor; bias: Tensor } };

function dense(
  scope: Scope,
  kind: string,
  outDim: number,
  weight: (ctx: Context) => Tensor,
  { bias = true, activation, biasInit = ZEROS }: WeightOptions,
): Dense {
  const shift = bias ? scope.param('bias', [outDim], 'plain', biasInit) : undefined;
  const layer = scope.layer(kind, (x, ctx) => product(x, weight(ctx), shift?.(ctx), activation));
  return Object.assign(layer, {
    read: (ctx: Context) => ({ weight: weight(ctx), bias: shift?.(ctx) ?? tf.zeros([outDim]) }),
  });
}

/** [b, …, in] → [b, …, out]. */
export function linear(scope: Scope, inDim: number, outDim: number, options: WeightOptions = {}): Dense {
  return dense(
    scope,
    'Linear',
    outDim,
    scope.param('weight', [inDim, outDim], 'linear', options.weightInit ?? TRUNC_NORMAL),
    options,
  );
}

/** A 1×1 convolution: [b, h, w, in] → [b, h, w, out]. */
export function pointwiseConv(scope: Scope, inDim: number, outDim: number, options: WeightOptions = {}): Dense {
  const weight = scope.param('weight', [1, 1, inDim, outDim], 'conv', options.weightInit ?? torchDefault(inDim));
  return dense(scope, 'Conv2D', outDim, ctx => tf.reshape(weight(ctx), [inDim, outDim]), {
    biasInit: torchDefault(inDim),
    ...options,
  });
}

/** Expand, GELU (`expand` has it as its activation), shrink. In training without a step between them, unless a tap watches the layers. */
export function expandAndShrink(expand: Dense, shrink: Dense): Layer {
  return (x, ctx) => {
    if (!ctx.train || ctx.tap) return shrink(expand(x, ctx), ctx);
    const first = expand.read(ctx),
      second = shrink.read(ctx);
    const rows = ops.feedForward(
      tf.reshape(x, [-1, first.weight.shape[0]!]),
      first.weight,
      first.bias,
      second.weight,
      second.bias,
    );
    return tf.reshape(rows, [...x.shape.slice(0, -1), second.weight.shape[1]!]);
  };
}

/** [b, h, w, in] → [b, h', w', out]. */
export function conv2d(scope: Scope, inDim: number, outDim: number, kernel: number, options: ConvOptions = {}): Layer {
  const fanIn = inDim * kernel * kernel;
  const {
    stride = 1,
    padding = (kernel - 1) / 2,
    bias = true,
    activation,
    weightInit = torchDefault(fanIn),
    biasInit = torchDefault(fanIn),
  } = options;
  const weight = scope.param('weight', [kernel, kernel, inDim, outDim], 'conv', weightInit);
  const shift = bias ? scope.param('bias', [outDim], 'plain', biasInit) : undefined;
  return scope.layer('Conv2D', (x, ctx) => {
    if (kernel === stride && padding === 0 && divides(kernel, x)) {
      return product(patches(x, kernel), tf.reshape(weight(ctx), [fanIn, outDim]), shift?.(ctx), activation);
    }
    return finish(ops.conv(x, weight(ctx), stride, padding), shift?.(ctx), activation);
  });
}

const divides = (size: number, { shape }: Tensor): boolean => shape[1]! % size === 0 && shape[2]! % size === 0;

/** [b, h, w, c] → [b, h/size, w/size, size · size · c]: the windows that a convolution of this kernel and stride sees. */
function patches(x: Tensor, size: number): Tensor {
  if (size === 1) return x;
  const [b, h, w, c] = x.shape as [number, number, number, number];
  const rows = tf.transpose(tf.reshape(x, [b, h / size, size, w / size, size * c]), [0, 1, 3, 2, 4]);
  return tf.reshape(rows, [b, h / size, w / size, size * size * c]);
}

/**
 * x [b, …, in] times weight [in, out], bias and activation. A convolution whose kernel is its stride goes this way too: with
 * its gradients that is 10–25 % faster than TensorFlow's convolution. The bias is added to the rows, where it is fused into the matmul.
 */
function product(x: Tensor, weight: Tensor, bias: Tensor | undefined, activation?: 'gelu'): Tensor {
  const [inDim, outDim] = weight.shape;
  const flat = tf.reshape(x, [-1, inDim]);
  const rows = activation ? finish(ops.matmul(flat, weight), bias, activation) : ops.matmul(flat, weight, bias);
  return tf.reshape(rows, [...x.shape.slice(0, -1), outDim]);
}

/** Bias and activation of a matmul. */
function finish(x: Tensor, bias: Tensor | undefined, activation?: 'gelu'): Tensor {
  if (activation === 'gelu') return ops.biasGelu(x, bias ?? tf.zeros([x.shape[x.rank - 1]!]));
  return bias ? ops.addBias(x, bias) : x;
}

/** One kernel per channel, of odd size: [b, h, w, c] → [b, ⌈h/stride⌉, ⌈w/stride⌉, c]. */
export function depthwiseConv(
  scope: Scope,
  dim: number,
  kernel: number,
  options: Omit<ConvOptions, 'padding'> = {},
): Layer {
  const fanIn = kernel * kernel;
  const { stride = 1, bias = true, weightInit = torchDefault(fanIn), biasInit = torchDefault(fanIn) } = options;
  const weight = scope.param('weight', [kernel, kernel, dim, 1], 'depthwise', weightInit);
  const shift = bias ? scope.param('bias', [dim], 'plain', biasInit) : undefined;
  return scope.layer('Conv2D', (x, ctx) => ops.depthwiseConv(x, weight(ctx), shift?.(ctx), stride));
}

/**
 * Depthwise transposed convolution whose kernel is its stride: [b, h, w, c] → [b, h·r, w·r, c], where pixel (y, x)
 * fills its r×r window with itself times the kernel: windows do not overlap, so a broadcast product computes it.
 */
export function depthwiseTransposedConv(scope: Scope, dim: number, rate: number, options: WeightOptions = {}): Layer {
  // PyTorch takes a transposed convolution's fan-in from dimension 1 of [c, 1, r, r].
  const { weightInit = torchDefault(rate * rate), biasInit = torchDefault(rate * rate) } = options;
  const weight = scope.param('weight', [rate, rate, dim], 'localProp', weightInit);
  const bias = scope.param('bias', [dim], 'plain', biasInit);
  return scope.layer('Conv2DTranspose', (x, ctx) => ops.localProp(x, weight(ctx), bias(ctx)));
}

/** [b, h, w, c] → [b, h·r, w·r, c] by repeating each pixel. */
export function upsampleNearest(x: Tensor, rate: number): Tensor {
  const c = x.shape[3]!;
  return ops.localProp(x, tf.ones([rate, rate, c]), tf.zeros([c]));
}

/**
 * [b, h, w, c] → [b, h·r, w·r, c], bilinear between pixel centres, the edge repeated outwards (PyTorch's align_corners
 * = false). As two matmuls with interpolation matrices, because tfjs-node's gradient of resizeBilinear ignores
 * halfPixelCenters.
 */
export function upsampleBilinear(x: Tensor, rate: number): Tensor {
  const [b, h, w, c] = x.shape;
  const tall = tf.matMul(interpolation(h, rate), tf.reshape(x, [b, h, w * c]));
  const wide = tf.matMul(interpolation(w, rate), tf.reshape(tall, [b * h * rate, w, c]));
  return tf.reshape(wide, [b, h * rate, w * rate, c]);
}

/** The matrix [n·rate, n] that interpolates n samples linearly. */
function interpolation(n: number, rate: number): Tensor {
  const rows = Array.from({ length: n * rate }, (_, i) => {
    const at = Math.min(Math.max((i + 0.5) / rate - 0.5, 0), n - 1);
    return Array.from({ length: n }, (_, j) => Math.max(0, 1 - Math.abs(at - j)));
  });
  return tf.tensor2d(rows);
}

/** The top-left pixel of each r×r window: [b, h, w, c] → [b, h/r, w/r, c]. By slicing, whose gradient is a pad. */
export function sampleTopLeft(x: Tensor, rate: number): Tensor {
  const [b, h, w, c] = x.shape;
  const windows = tf.reshape(x, [b, h / rate, rate, w / rate, rate * c]);
  return tf.reshape(tf.slice(windows, [0, 0, 0, 0, 0], [b, h / rate, 1, w / rate, c]), [b, h / rate, w / rate, c]);
}

/** Each pixel becomes the top-left one of an r×r window of zeros: [b, h, w, c] → [b, h·r, w·r, c]. `sampleTopLeft` undoes it. */
export function toTopLeft(x: Tensor, rate: number): Tensor {
  const [b, h, w, c] = x.shape;
  const windows = tf.pad(tf.reshape(x, [b, h, 1, w, c]), [
    [0, 0],
    [0, 0],
    [0, rate - 1],
    [0, 0],
    [0, (rate - 1) * c],
  ]);
  return tf.reshape(windows, [b, h * rate, w * rate, c]);
}

/** Over the last axis, with weight and bias per channel. */
export function layerNorm(scope: Scope, dim: number, eps: number): Layer {
  const weight = scope.param('weight', [dim], 'plain', ONES);
  const bias = scope.param('bias', [dim], 'plain', ZEROS);
  return scope.layer('LayerNorm', (x, ctx) => ops.layerNorm(x, weight(ctx), bias(ctx), eps));
}

/** Over a whole image [b, h, w, c] (a group norm of one group), with weight and bias per channel. */
export function groupNorm(scope: Scope, dim: number, eps: number): Layer {
  const weight = scope.param('weight', [dim], 'plain', ONES);
  const bias = scope.param('bias', [dim], 'plain', ZEROS);
  return scope.layer('GroupNorm', (x, ctx) => tf.add(tf.mul(standardise(x, [1, 2, 3], eps), weight(ctx)), bias(ctx)));
}

/** (x − mean) / √(variance + eps) over the axes; the variance is the biased one. */
export function standardise(x: Tensor, axes: number[], eps: number): Tensor {
  const centred = tf.sub(x, tf.mean(x, axes, true));
  const variance = tf.mean(tf.square(centred), axes, true);
  return tf.mul(centred, tf.rsqrt(tf.add(variance, eps)));
}

export interface BatchNormOptions {
  eps?: number;
  /** Weight of the new statistics (PyTorch's momentum; Paddle's is 1 minus it). */
  momentum?: number;
  /** Which variance the running one keeps: PyTorch the unbiased, Paddle the biased. Both normalise by the biased. */
  runningVariance?: 'unbiased' | 'biased';
}

/** Per channel over batch and image: [b, h, w, c] → the same. Throws UserError when one value per channel is left to train on. */
export function batchNorm(scope: Scope, dim: number, options: BatchNormOptions = {}): Layer {
  const { eps = 1e-5, momentum = 0.1, runningVariance = 'unbiased' } = options;
  const weight = scope.param('weight', [dim], 'plain', ONES);
  const bias = scope.param('bias', [dim], 'plain', ZEROS);
  const runningMean = scope.buffer('running_mean', dim, 0);
  const runningVar = scope.buffer('running_var', dim, 1);
  const blend = (old: Tensor, now: Tensor) => tf.add(tf.mul(old, 1 - momentum), tf.mul(now, momentum));
  return scope.layer('BatchNorm2D', (x, ctx) => {
    if (!ctx.train || ctx.frozen?.has(`${scope.path}.weight`)) {
      const scale = tf.mul(weight(ctx), tf.rsqrt(tf.add(runningVar.read(ctx), eps)));
      return tf.add(tf.mul(x, scale), tf.sub(bias(ctx), tf.mul(runningMean.read(ctx), scale)));
    }
    const n = x.size / dim;
    if (n < 2)
      throw new UserError(
        `Batch norm '${scope.path}' cannot train on one value per channel: use a larger batch or larger images.`,
      );
    const { y, mean, variance } = ops.batchNorm(x, weight(ctx), bias(ctx), eps);
    ctx.updated[runningMean.name] = blend(runningMean.read(ctx), mean);
    ctx.updated[runningVar.name] = blend(
      runningVar.read(ctx),
      runningVariance === 'biased' ? variance : tf.mul(variance, n / (n - 1)),
    );
    return y;
  });
}

/** softmax(q kᵀ · scale) v per head: qkv [b, n, 3c] → [b, n, c]. */
export function attention(scope: Scope, options: AttentionOptions): Layer {
  return scope.layer('DotProductAttention', qkv => ops.attention(qkv, options));
}

/** Drop path rates of blocks: from 0 in the first, linearly, to the full rate in the last. */
export function dropPathRates(blocks: number, rate: number): number[] {
  return Array.from({ length: blocks }, (_, i) => (blocks > 1 ? (rate * i) / (blocks - 1) : 0));
}

/** A residual connection: (x, branch) → x + branch, shapes equal. */
export type Residual = (x: Tensor, branch: Tensor, ctx: Context) => Tensor;

/**
 * A residual with stochastic depth: in training drops the branch for a whole image with probability `rate` and divides
 * what stays by 1 − rate. Takes a row of the noise only if the rate is above 0.
 */
export function dropPath(scope: Scope, rate: number): Residual {
  if (rate === 0) return (x, branch) => tf.add(x, branch);
  const site = scope.dropPathSite();
  const keep = 1 - rate;
  return (x, branch, ctx) => {
    if (!ctx.train) return tf.add(x, branch);
    if (!ctx.noise) throw new Error(`Drop path at '${scope.path}' needs noise [dropPathSites, b] when training.`);
    const row = tf.reshape(tf.slice(ctx.noise, [site, 0], [1, x.shape[0]]), [x.shape[0]]);
    return ops.addScaled(x, branch, tf.mul(tf.floor(tf.add(row, keep)), 1 / keep));
  };
}

/** [b, h, w, c] → [b, c]. */
export function globalAveragePool(x: Tensor): Tensor {
  return tf.mean(x, [1, 2]);
}
