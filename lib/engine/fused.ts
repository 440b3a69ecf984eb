import { type AdamSlots, type AttentionOptions, type Ops, requireHeads, stockOps } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import { type Attr, nodeBackend } from './binding';

/**
 * Kernels of the lab's own (native/*.cc) in place of the compositions of lib/tensor/ops, which they must equal. They need `hasGraphs()`.
 * Where a shape gains nothing from a kernel, the composition is taken here too.
 */

/**
 * Whether a kernel of ours takes these arguments: float32 throughout, and of exactly the shapes it is written for (`fits`).
 * All else that stock ops accept, such as a weight that broadcasts, and all that they refuse, is left to them.
 */
const takes = (inputs: readonly Tensor[], fits: boolean): boolean =>
  fits && inputs.every(input => input.dtype === 'float32');

const hasShape = ({ shape }: Tensor, ...sizes: number[]): boolean =>
  shape.length === sizes.length && shape.every((size, i) => size === sizes[i]);

const sameShape = (...tensors: Tensor[]): boolean => tensors.every(tensor => hasShape(tensor, ...tensors[0]!.shape));

/** Whether each of these holds one value for each channel of x [..., c]. */
const perChannel = (x: Tensor, ...values: Tensor[]): boolean =>
  x.rank > 0 && values.every(value => hasShape(value, x.shape[x.rank - 1]!));

function run(op: string, inputs: Tensor[], outputs: number, attrs: Attr[] = []): Tensor[] {
  return nodeBackend().executeMultipleOutputs(op, attrs, inputs, outputs);
}

/** Attributes that are integers. */
function ints(attrs: Record<string, number>): Attr[] {
  const type = nodeBackend().binding.TF_ATTR_INT;
  return Object.entries(attrs).map(([name, value]) => ({ name, type, value }));
}

/** Attributes that are floats. */
function floats(attrs: Record<string, number>): Attr[] {
  const type = nodeBackend().binding.TF_ATTR_FLOAT;
  return Object.entries(attrs).map(([name, value]) => ({ name, type, value }));
}

/** Whether tfjs records what runs now; within a gradient that means that this gradient will be differentiated in its turn. */
const isRecorded = () => (tf.engine() as unknown as { isTapeOn(): boolean }).isTapeOn();

/**
 * A kernel with its gradient, `backward`, which gets dy and what `forward` saved. Where that is differentiated again, it is the
 * gradient of `stock`, the composition that the kernel equals: stock ops have derivatives of every order.
 */
function differentiable(
  stock: (...inputs: Tensor[]) => Tensor,
  inputs: Tensor[],
  forward: (inputs: Tensor[]) => { value: Tensor; saved: Tensor[] },
  backward: (dy: Tensor, saved: Tensor[]) => Tensor[],
): Tensor {
  const op = tf.customGrad((...args) => {
    const save = args.pop() as unknown as (tensors: Tensor[]) => void;
    const { value, saved } = forward(args as Tensor[]);
    save([...(args as Tensor[]), ...saved]);
    return {
      value,
      gradFunc: (dy: Tensor, tensors: Tensor[]) =>
        isRecorded()
          ? tf.grads(stock)(tensors.slice(0, inputs.length), dy)
          : backward(dy, tensors.slice(inputs.length)),
    };
  });
  return op(...inputs);
}

/** Over the last axis: x [..., c], weight [c], bias [c] → [..., c]; the variance is the biased one. */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  if (!takes([x, weight, bias], perChannel(x, weight, bias))) return stockOps.layerNorm(x, weight, bias, eps);
  return differentiable(
    (x, weight, bias) => stockOps.layerNorm(x, weight, bias, eps),
    [x, weight, bias],
    ([x, weight, bias]) => {
      const [y, mean, rstd] = run('LabLayerNorm', [x!, weight!, bias!], 3, floats({ eps }));
      return { value: y!, saved: [x!, weight!, mean!, rstd!] };
    },
    (dy, saved) => run('LabLayerNormGrad', [dy, ...saved], 3, ints({ joins: 0 })),
  );
}

/** Over all axes but the last, with the batch's own statistics: y [..., c], and mean and biased variance [c], which carry no gradient. */
export function batchNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  eps: number,
): { y: Tensor; mean: Tensor; variance: Tensor } {
  if (!takes([x, weight, bias], perChannel(x, weight, bias))) return stockOps.batchNorm(x, weight, bias, eps);
  const [mean, variance] = run('LabBatchMoments', [x], 2);
  const y = differentiable(
    (x, weight, bias) => stockOps.batchNorm(x, weight, bias, eps).y,
    [x, weight, bias],
    ([x, weight, bias]) => ({
      value: run('LabBatchNorm', [x!, weight!, bias!, mean!, variance!], 1, floats({ eps }))[0]!,
      saved: [x!, weight!, mean!, variance!],
    }),
    (dy, saved) => run('LabBatchNormGrad', [dy, ...saved], 3, [...ints({ joins: 0 }), ...floats({ eps })]),
  );
  return { y, mean: mean!, variance: variance! };
}

/** x [..., c] + bias [c]. */
export function addBias(x: Tensor, bias: Tensor): Tensor {
  if (!takes([x, bias], x.rank > 1 && perChannel(x, bias))) return stockOps.addBias(x, bias);
  // After a matmul as BiasAdd, which TensorFlow fuses into it; after a depthwise convolution that breaks its remapper (2.19).
  const add = (x: Tensor, bias: Tensor) => (x.rank === 2 ? run('BiasAdd', [x, bias], 1)[0]! : tf.add(x, bias));
  return differentiable(
    stockOps.addBias,
    [x, bias],
    ([x, bias]) => ({ value: add(x!, bias!), saved: [] }),
    dy => [dy, run('LabChannelSum', [dy], 1)[0]!],
  );
}

/** The exact GELU, x · Φ(x), of x [..., c] + bias [c]. */
export function biasGelu(x: Tensor, bias: Tensor): Tensor {
  if (!takes([x, bias], perChannel(x, bias))) return stockOps.biasGelu(x, bias);
  return differentiable(
    stockOps.biasGelu,
    [x, bias],
    ([x, bias]) => ({ value: run('LabBiasGelu', [x!, bias!], 1)[0]!, saved: [x!, bias!] }),
    (dy, saved) => run('LabBiasGeluGrad', [dy, ...saved], 2),
  );
}

/** Rows from which a matmul is tall: the lab's own kernels pack the weights each time, which few rows do not repay. */
export const TALL = 128;

/** x [m, k] times weight [k, n], and bias [n] where there is one → [m, n]. */
export function product(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const [rows, depth] = x.shape;
  const fits = x.rank === 2 && rows! >= TALL && weight.rank === 2 && weight.shape[0] === depth;
  if (!takes(bias ? [x, weight, bias] : [x, weight], fits && (!bias || hasShape(bias, weight.shape[1]!))))
    return bias ? addBias(tf.matMul(x, weight), bias) : tf.matMul(x, weight);
  return differentiable(
    stockOps.matmul,
    bias ? [x, weight, bias] : [x, weight],
    ([x, weight, bias]) => {
      const rows: Tensor = tf.matMul(x!, weight!);
      return { value: bias ? run('BiasAdd', [rows, bias], 1)[0]! : rows, saved: [x!, weight!] };
    },
    (dy, saved) => run('LabProductGrad', [dy, ...saved], 3, ints({ scales: 0 })).slice(0, bias ? 3 : 2),
  );
}

/** Rows from which an FFN's hidden values are worth keeping out of memory; fewer stay in the last cache anyway, and leave many threads idle. */
const MANY_ROWS = 1024;

/** Channels from which hidden values are kept for the gradient: to write and fetch one takes as long as 64 multiplications and additions. */
const KEPT_FROM = 64;

/** gelu(x W₁ + b₁) W₂ + b₂: x [m, k], W₁ [k, h], W₂ [h, n] → [m, n]. */
export function feedForward(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor): Tensor {
  const [rows, depth] = x.shape;
  const [, hidden] = weight1.shape;
  const fits =
    x.rank === 2 &&
    rows! >= MANY_ROWS &&
    hasShape(weight1, depth!, hidden!) &&
    hasShape(bias1, hidden!) &&
    bias2.rank === 1 &&
    hasShape(weight2, hidden!, bias2.size);
  if (!takes([x, weight1, bias1, weight2, bias2], fits))
    return product(biasGelu(product(x, weight1), bias1), weight2, bias2);
  const { TF_ATTR_BOOL } = nodeBackend().binding;
  const attrs: Attr[] = [...ints({ joins: 0 }), { name: 'keep', type: TF_ATTR_BOOL, value: x.shape[1]! >= KEPT_FROM }];
  return differentiable(
    stockOps.feedForward,
    [x, weight1, bias1, weight2, bias2],
    inputs => {
      const [y, hidden] = run('LabFeedForward', inputs, 2, attrs);
      return { value: y!, saved: [...inputs.slice(0, 4), hidden!] };
    },
    (dy, saved) => run('LabFeedForwardGrad', [dy, ...saved], 5, ints({ scales: 0 })),
  );
}

/** A residual with drop path: x [b, …] + branch [b, …] · scale [b]; the scale carries no gradient. */
export function addScaled(x: Tensor, branch: Tensor, scale: Tensor): Tensor {
  const scaled = (branch: Tensor, scale: Tensor) =>
    tf.mul(branch, tf.reshape(scale, [scale.size, ...branch.shape.slice(1).map(() => 1)]));
  const fits = x.rank > 0 && sameShape(x, branch) && hasShape(scale, x.shape[0]!);
  if (!takes([x, branch, scale], fits)) return stockOps.addScaled(x, branch, scale);
  return differentiable(
    (x, branch) => stockOps.addScaled(x, branch, scale),
    [x, branch],
    ([x, branch]) => ({ value: run('LabAddScaled', [x!, branch!, scale], 1)[0]!, saved: [scale] }),
    (dy, [scale]) => [dy, scaled(dy, scale!)],
  );
}

/** Channels that a vector of the widest processors holds: the depthwise kernels work by whole vectors. */
const LANES = 16;

/** Depthwise convolution at stride 1, `same` padding: x [b, h, w, c], kernel [k, k, c, 1], bias [c] → [b, h, w, c]. */
export function depthwiseConv(x: Tensor, kernel: Tensor, bias: Tensor): Tensor {
  const size = kernel.shape[0]!;
  const channels = x.shape[3]!;
  const fits =
    x.rank === 4 &&
    (size === 3 || size === 5) &&
    channels >= LANES &&
    hasShape(kernel, size, size, channels, 1) &&
    hasShape(bias, channels);
  if (!takes([x, kernel, bias], fits)) return stockOps.depthwiseConv(x, kernel, bias);
  return differentiable(
    depthwiseConvByTaps,
    [x, kernel, bias],
    ([x, kernel, bias]) => ({ value: run('LabDepthwiseConv', [x!, kernel!, bias!], 1)[0]!, saved: [x!, kernel!] }),
    (dy, saved) => run('LabDepthwiseConvGrad', [dy, ...saved], 3, ints({ joins: 0 })),
  );
}

/** The same as a sum over the kernel's entries: tfjs's own depthwise convolution has no second derivative. */
function depthwiseConvByTaps(x: Tensor, kernel: Tensor, bias: Tensor): Tensor {
  const [b, h, w, c] = x.shape as [number, number, number, number];
  const k = kernel.shape[0]!;
  const margin: [number, number] = [(k - 1) / 2, (k - 1) / 2];
  const padded = tf.pad(x, [[0, 0], margin, margin, [0, 0]]);
  const taps = Array.from({ length: k * k }, (_, tap) => {
    const at = [Math.floor(tap / k), tap % k] as const;
    const weight = tf.reshape(tf.slice(kernel, [...at, 0, 0], [1, 1, c, 1]), [c]);
    return tf.mul(tf.slice(padded, [0, ...at, 0], [b, h, w, c]), weight);
  });
  return tf.add(tf.addN(taps), bias);
}

/** Depthwise transposed convolution whose kernel is its stride: x [b, h, w, c], kernel [r, r, c], bias [c] → [b, h·r, w·r, c]. */
export function localProp(x: Tensor, kernel: Tensor, bias: Tensor): Tensor {
  const [rate, , channels] = kernel.shape as [number, number, number];
  const fits = x.rank === 4 && hasShape(kernel, rate, rate, x.shape[3]!) && hasShape(bias, channels);
  if (!takes([x, kernel, bias], fits)) return stockOps.localProp(x, kernel, bias);
  return differentiable(
    stockOps.localProp,
    [x, kernel, bias],
    ([x, kernel, bias]) => ({ value: run('LabLocalProp', [x!, kernel!, bias!], 1)[0]!, saved: [x!, kernel!] }),
    (dy, saved) => run('LabLocalPropGrad', [dy, ...saved], 3),
  );
}

/** softmax(q kᵀ · scale) v per head: qkv [b, n, 3c] → [b, n, c]. */
export function attention(qkv: Tensor, options: AttentionOptions): Tensor {
  const { heads, scale, order = 'qkv-head' } = options;
  requireHeads(qkv, heads);
  if (!takes([qkv], order === 'qkv-head')) return stockOps.attention(qkv, options);
  const [, , c3] = qkv.shape as [number, number, number];
  const attrs = [...ints({ heads }), ...floats({ scale: scale ?? (c3 / 3 / heads) ** -0.5 })];
  return differentiable(
    qkv => stockOps.attention(qkv, options),
    [qkv],
    ([qkv]) => ({ value: run('LabAttention', [qkv!], 1, attrs)[0]!, saved: [qkv!] }),
    (dy, [qkv]) => run('LabAttentionGrad', [dy, qkv!], 1, attrs),
  );
}

/**
 * Adam's update of one parameter: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², p ← keep · p − step · m / (√v + ε).
 * The scalars are tensors, so that they may change from step to step.
 */
export function adam(
  { param, mean, square }: AdamSlots,
  grad: Tensor,
  betas: { beta1: number; beta2: number },
  scalars: { step: Tensor; epsilon: Tensor; keep: Tensor },
): AdamSlots {
  const { beta1, beta2 } = betas;
  const { step, epsilon, keep } = scalars;
  const fits = sameShape(param, mean, square, grad) && [step, epsilon, keep].every(scalar => scalar.rank === 0);
  if (!takes([param, mean, square, grad, step, epsilon, keep], fits))
    return stockOps.adam({ param, mean, square }, grad, betas, scalars);
  const attrs = floats({ beta1, beta2, rest1: 1 - beta1, rest2: 1 - beta2 });
  const [p, m, v] = run('LabAdam', [param, mean, square, grad, step, epsilon, keep], 3, attrs);
  return { param: p!, mean: m!, square: v! };
}

export const fusedOps: Ops = {
  layerNorm,
  batchNorm,
  addBias,
  biasGelu,
  matmul: product,
  feedForward,
  addScaled,
  depthwiseConv,
  localProp,
  attention,
  adam,
};
