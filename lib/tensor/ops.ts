import { type Tensor, type Tensor4D, tf } from './tf';

/**
 * What networks and optimizers compute with beside TensorFlow's own ops, wherever a kernel of its own may be faster. The default is the composition
 * of stock ops below, which runs on every backend; `openEngine()` installs the fused kernels of lib/engine, which must equal it.
 */
export interface Ops {
  /** Over the last axis: x [..., c], weight [c], bias [c] → [..., c]; the variance is the biased one. */
  layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor;
  /**
   * Over all axes but the last, with the batch's own statistics: y [..., c], and mean and biased variance [c], which carry no
   * gradient.
   */
  batchNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): { y: Tensor; mean: Tensor; variance: Tensor };
  /** x [..., c] + bias [c]. */
  addBias(x: Tensor, bias: Tensor): Tensor;
  /** The exact GELU, x · Φ(x), of x [..., c] + bias [c]. */
  biasGelu(x: Tensor, bias: Tensor): Tensor;
  /** x [m, k] times weight [k, n], and bias [n] where there is one → [m, n]. */
  matmul(x: Tensor, weight: Tensor, bias?: Tensor): Tensor;
  /** gelu(x W₁ + b₁) W₂ + b₂: x [m, k], W₁ [k, h], W₂ [h, n] → [m, n]. */
  feedForward(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor): Tensor;
  /** A residual with drop path: x [b, …] + branch [b, …] · scale [b]; the scale carries no gradient. */
  addScaled(x: Tensor, branch: Tensor, scale: Tensor): Tensor;
  /** x [b, h, w, c], `padding` zeros on each side of it, kernel [k, k, c, n] → [b, h', w', n]. */
  conv(x: Tensor, kernel: Tensor, stride: number, padding: number): Tensor;
  /** One kernel per channel, k odd, (k − 1) / 2 zeros on each side: x [b, h, w, c], kernel [k, k, c, 1], bias [c] → [b, ⌈h/stride⌉, ⌈w/stride⌉, c]. */
  depthwiseConv(x: Tensor, kernel: Tensor, bias?: Tensor, stride?: number): Tensor;
  /** Depthwise transposed convolution whose kernel is its stride: x [b, h, w, c], kernel [r, r, c], bias [c] → [b, h·r, w·r, c]. */
  localProp(x: Tensor, kernel: Tensor, bias: Tensor): Tensor;
  /** softmax(q kᵀ · scale) v per head: qkv [b, n, 3c] → [b, n, c]. */
  attention(qkv: Tensor, options: AttentionOptions): Tensor;
  /**
   * Adam's update of one parameter: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², p ← keep · p − step · m / (√v + ε).
   * The scalars are tensors, so that they may change from step to step.
   */
  adam(
    slots: AdamSlots,
    grad: Tensor,
    betas: { beta1: number; beta2: number },
    scalars: { step: Tensor; epsilon: Tensor; keep: Tensor },
  ): AdamSlots;
}

export interface AttentionOptions {
  heads: number;
  /** The logits' factor; PyTorch's d^−½ unless given. */
  scale?: number;
  /** How qkv's channels split: official (3, heads, d), or (heads, 3, d) as in the paper's pseudo-code. */
  order?: 'qkv-head' | 'head-qkv';
}

/** What Adam knows of a parameter; all shapes equal. */
export interface AdamSlots {
  param: Tensor;
  mean: Tensor;
  square: Tensor;
}

/** Compositions of stock ops: what every other implementation must equal. */
export const stockOps: Ops = {
  layerNorm(x, weight, bias, eps) {
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const variance = tf.mean(tf.square(centred), -1, true);
    return tf.add(tf.mul(tf.mul(centred, tf.rsqrt(tf.add(variance, eps))), weight), bias);
  },
  batchNorm(x, weight, bias, eps) {
    const axes = x.shape.slice(1).map((_, i) => i);
    const mean = tf.mean(x, axes);
    const centred = tf.sub(x, mean);
    const variance = tf.mean(tf.square(centred), axes);
    return { y: tf.add(tf.mul(centred, tf.mul(weight, tf.rsqrt(tf.add(variance, eps)))), bias), mean, variance };
  },
  addBias: (x, bias) => tf.add(x, bias),
  biasGelu(x, bias) {
    const shifted = tf.add(x, bias);
    return tf.mul(tf.mul(shifted, 0.5), tf.add(tf.erf(tf.mul(shifted, Math.SQRT1_2)), 1));
  },
  matmul(x, weight, bias) {
    const rows: Tensor = tf.matMul(x, weight);
    return bias ? tf.add(rows, bias) : rows;
  },
  feedForward(x, weight1, bias1, weight2, bias2) {
    return stockOps.matmul(stockOps.biasGelu(stockOps.matmul(x, weight1), bias1), weight2, bias2);
  },
  addScaled: (x, branch, scale) =>
    tf.add(x, tf.mul(branch, tf.reshape(scale, [scale.size, ...branch.shape.slice(1).map(() => 1)]))),
  conv: (x, kernel, stride, padding) => tf.conv2d(padImage(x, padding), kernel as Tensor4D, stride, 'valid'),
  depthwiseConv(x, kernel, bias, stride = 1) {
    const margin = (kernel.shape[0]! - 1) / 2;
    // At stride 1 TensorFlow's `same` is the same; in a larger one it pads on one side only.
    const y =
      stride === 1
        ? tf.depthwiseConv2d(x as Tensor4D, kernel as Tensor4D, 1, 'same')
        : tf.depthwiseConv2d(padImage(x, margin), kernel as Tensor4D, stride, 'valid');
    return bias ? tf.add(y, bias) : y;
  },
  localProp(x, kernel, bias) {
    requireRank('localProp', x, 4);
    requireRank("localProp's kernel", kernel, 3);
    const [b, h, w, c] = x.shape as [number, number, number, number];
    const r = kernel.shape[0]!;
    const windows = tf.mul(tf.reshape(x, [b, h, 1, w, 1, c]), tf.reshape(kernel, [1, 1, r, 1, r, c]));
    return tf.add(tf.reshape(windows, [b, h * r, w * r, c]), bias);
  },
  attention(qkv, options) {
    requireHeads(qkv, options.heads);
    const [b, n, c3] = qkv.shape as [number, number, number];
    const { weights, values } = attentionWeights(qkv, options);
    return tf.reshape(tf.transpose(tf.matMul(weights, values), [0, 2, 1, 3]), [b, n, c3 / 3]);
  },
  adam({ param, mean, square }, grad, { beta1, beta2 }, scalars) {
    const m = tf.add(tf.mul(mean, beta1), tf.mul(grad, 1 - beta1));
    const v = tf.add(tf.mul(square, beta2), tf.mul(tf.square(grad), 1 - beta2));
    const step = tf.mul(tf.div(m, tf.add(tf.sqrt(v), scalars.epsilon)), scalars.step);
    return { param: tf.sub(tf.mul(param, scalars.keep), step), mean: m, square: v };
  },
};

/** The implementation in use. */
export let ops: Ops = stockOps;

/** From now on layers and optimizers compute with these. */
export function installOps(implementation: Ops): void {
  ops = implementation;
}

/** Runs `fn` with stock ops alone: for graphs that leave the lab (SavedModels), and to measure what the kernels buy. */
export const withStockOps = <T>(fn: () => T): T => withOps(stockOps, fn);

/** Runs `fn` with these. */
export function withOps<T>(implementation: Ops, fn: () => T): T {
  const before = ops;
  ops = implementation;
  try {
    return fn();
  } finally {
    ops = before;
  }
}

/** Zeros around an image [b, h, w, c]: `before` above and on the left, `after` below and on the right. */
export function padImage(x: Tensor, before: number, after: number | readonly [number, number] = before): Tensor4D {
  const [below, right] = typeof after === 'number' ? [after, after] : after;
  if (before === 0 && below === 0 && right === 0) return x as Tensor4D;
  return tf.pad(x as Tensor4D, [
    [0, 0],
    [before, below],
    [before, right],
    [0, 0],
  ]);
}

/** Refuses x of another rank. */
function requireRank(what: string, x: Tensor, rank: number): void {
  if (x.rank !== rank) throw new Error(`${what} takes a tensor of rank ${rank}, not one of shape [${x.shape}].`);
}

/** Refuses what does not divide into q, k and v of so many heads. */
export function requireHeads(qkv: Tensor, heads: number): void {
  requireRank('Attention', qkv, 3);
  if (!(Number.isInteger(heads) && heads > 0))
    throw new Error(`Attention takes a positive number of heads, not ${heads}.`);
  if (qkv.shape[2]! % (3 * heads) !== 0)
    throw new Error(`Attention's ${qkv.shape[2]} channels do not divide into q, k and v of ${heads} heads.`);
}

/**
 * What each query takes from each key, and the values that it takes: qkv [b, n, 3c] → weights [b, heads, n, n], whose rows sum to 1, and
 * values [b, heads, n, d].
 */
export function attentionWeights(
  qkv: Tensor,
  { heads, scale, order = 'qkv-head' }: AttentionOptions,
): { weights: Tensor; values: Tensor } {
  requireHeads(qkv, heads);
  const [b, n, c3] = qkv.shape as [number, number, number];
  const d = c3 / 3 / heads;
  const [q, k, values] =
    order === 'qkv-head'
      ? tf.unstack(tf.transpose(tf.reshape(qkv, [b, n, 3, heads, d]), [2, 0, 3, 1, 4]))
      : tf.unstack(tf.transpose(tf.reshape(qkv, [b, n, heads, 3, d]), [3, 0, 2, 1, 4]));
  return { weights: tf.softmax(tf.mul(tf.matMul(q!, k!, false, true), scale ?? 1 / Math.sqrt(d))), values: values! };
}
