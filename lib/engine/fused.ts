import { type AdamSlots, type AttentionOptions, type Ops, padImage, requireHeads, stockOps } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import { nodeBackend } from './binding';
import {
  type AttrsOf,
  attrsOf,
  depthwiseConvByTaps,
  type InputsOf,
  inputNames,
  type OpName,
  type OutputsOf,
  opNamed,
  outputNames,
} from './nativeOps';

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

/** Runs one of the lab's ops; its lists are empty. */
function run<N extends OpName>(name: N, inputs: InputsOf<N>, attrs: AttrsOf<N>): OutputsOf<N> {
  const named = inputs as unknown as Record<string, Tensor>;
  const backend = nodeBackend();
  const names = outputNames(name);
  const outputs = backend.executeMultipleOutputs(
    name,
    attrsOf(backend.binding, name, attrs),
    inputNames(name).map(input => named[input]!),
    names.length,
  );
  return Object.fromEntries(names.map((output, i) => [output, outputs[i]!])) as OutputsOf<N>;
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

/** Values by their names. */
const zip = (names: readonly string[], values: readonly Tensor[]): Record<string, Tensor> =>
  Object.fromEntries(names.map((name, i) => [name, values[i]!]));

/**
 * One of the lab's ops with its gradient by `by`, those of its inputs that have one: its first output. All follows from the table (nativeOps.ts).
 * `forward` computes the op's outputs where it isn't the kernel that does.
 */
function kernel<N extends OpName>(
  name: N,
  inputs: InputsOf<N>,
  attrs: AttrsOf<N>,
  {
    by = Object.keys(inputs),
    forward = named => run(name, named as InputsOf<N>, attrs),
  }: { by?: readonly string[]; forward?: (named: Record<string, Tensor>) => Record<string, Tensor> } = {},
): Tensor {
  const { stock, gradient } = opNamed(name);
  const backward = gradient as OpName;
  const named = inputs as unknown as Record<string, Tensor>;
  const needed = inputNames(backward).filter(input => input !== 'dy');
  return differentiable(
    (...args) => stock!({ ...named, ...zip(by, args) }, attrs)[0]!,
    by.map(input => named[input]!),
    args => {
      const current = { ...named, ...zip(by, args) };
      const outputs = forward(current);
      const known = { ...current, ...outputs };
      return { value: outputs[outputNames(name)[0]!]!, saved: needed.map(input => known[input]!) };
    },
    (dy, saved) => {
      const grads = run(backward, { dy, ...zip(needed, saved) } as InputsOf<typeof backward>, attrs as never);
      return by.map(input => (grads as Record<string, Tensor>)[`d${input}`]!);
    },
  );
}

/** Over the last axis: x [..., c], weight [c], bias [c] → [..., c]; the variance is the biased one. */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  if (!takes([x, weight, bias], perChannel(x, weight, bias))) return stockOps.layerNorm(x, weight, bias, eps);
  return kernel('LabLayerNorm', { x, weight, bias }, { eps });
}

/** Over all axes but the last, with the batch's own statistics: y [..., c], and mean and biased variance [c], which carry no gradient. */
export function batchNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  eps: number,
): { y: Tensor; mean: Tensor; variance: Tensor } {
  if (!takes([x, weight, bias], perChannel(x, weight, bias))) return stockOps.batchNorm(x, weight, bias, eps);
  const { mean, variance } = run('LabBatchMoments', { x }, {});
  const y = kernel('LabBatchNorm', { x, weight, bias, mean, variance }, { eps }, { by: ['x', 'weight', 'bias'] });
  return { y, mean, variance };
}

/** TensorFlow's own, which graphs fuse into a matmul before it. */
const biasAdd = (x: Tensor, bias: Tensor): Tensor =>
  nodeBackend().executeMultipleOutputs('BiasAdd', [], [x, bias], 1)[0]!;

/** x [..., c] + bias [c]. */
export function addBias(x: Tensor, bias: Tensor): Tensor {
  if (!takes([x, bias], x.rank > 1 && perChannel(x, bias))) return stockOps.addBias(x, bias);
  // After a matmul as BiasAdd, which TensorFlow fuses into it; after a depthwise convolution that breaks its remapper (2.19).
  const add = (x: Tensor, bias: Tensor) => (x.rank === 2 ? biasAdd(x, bias) : tf.add(x, bias));
  return differentiable(
    stockOps.addBias,
    [x, bias],
    ([x, bias]) => ({ value: add(x!, bias!), saved: [] }),
    dy => [dy, run('LabChannelSum', { x: dy }, {}).sum],
  );
}

/** The exact GELU, x · Φ(x), of x [..., c] + bias [c]. */
export function biasGelu(x: Tensor, bias: Tensor): Tensor {
  if (!takes([x, bias], perChannel(x, bias))) return stockOps.biasGelu(x, bias);
  return kernel('LabBiasGelu', { x, bias }, {});
}

/** Rows from which a matmul is tall: the lab's own kernels pack the weights each time, which few rows do not repay. */
export const TALL = 128;

/** x [m, k] times weight [k, n], and bias [n] where there is one → [m, n]. */
export function product(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const [rows, depth] = x.shape;
  const fits = x.rank === 2 && rows! >= TALL && weight.rank === 2 && weight.shape[0] === depth;
  if (!takes(bias ? [x, weight, bias] : [x, weight], fits && (!bias || hasShape(bias, weight.shape[1]!))))
    return bias ? addBias(tf.matMul(x, weight), bias) : tf.matMul(x, weight);
  return kernel(
    'LabProduct',
    { x, weight, ...(bias && { bias }) } as InputsOf<'LabProduct'>,
    { gelu: false, constant_weight: false },
    {
      // Fused later, with whatever follows.
      forward({ x, weight, bias }) {
        const rows: Tensor = tf.matMul(x!, weight!);
        return { y: bias ? biasAdd(rows, bias) : rows };
      },
    },
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
  return kernel('LabFeedForward', { x, weight1, bias1, weight2, bias2 }, { keep: depth! >= KEPT_FROM });
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
    ([x, branch]) => ({ value: run('LabAddScaled', { x: x!, branch: branch!, scale }, {}).y, saved: [scale] }),
    (dy, [scale]) => [dy, scaled(dy, scale!)],
  );
}

/** The pixels (y · stride, x · stride) of an image: [b, h, w, c] → [b, ⌈h/stride⌉, ⌈w/stride⌉, c]. By ops that copy, as are their gradients. */
function everyNth(x: Tensor, stride: number): Tensor {
  if (stride === 1) return x;
  const [b, h, w, c] = x.shape as [number, number, number, number];
  const [rows, columns] = [Math.ceil(h / stride), Math.ceil(w / stride)];
  const whole = padImage(x, 0, [rows * stride - h, columns * stride - w]);
  const windows = tf.reshape(whole, [b, rows, stride, columns, stride * c]);
  return tf.reshape(tf.slice(windows, [0, 0, 0, 0, 0], [b, rows, 1, columns, c]), [b, rows, columns, c]);
}

/** x [b, h, w, c], `padding` zeros on each side of it, kernel [k, k, c, n] → [b, h', w', n], as a matmul of the windows: TensorFlow's own sums in another order on each processor. */
export function conv(x: Tensor, kernel: Tensor, stride: number, padding: number): Tensor {
  const [rows, columns, from, to] = kernel.shape as [number, number, number, number];
  const fits = x.rank === 4 && kernel.rank === 4 && x.shape[3] === from && Number.isInteger(padding);
  if (!takes([x, kernel], fits)) return stockOps.conv(x, kernel, stride, padding);
  const padded = padImage(x, padding);
  const [b, h, w] = padded.shape;
  const [height, width] = [h - rows + 1, w - columns + 1];
  const taps = Array.from({ length: rows * columns }, (_, tap) => {
    const at = [0, Math.floor(tap / columns), tap % columns, 0];
    return everyNth(tf.slice(padded, at, [b, height, width, from]), stride);
  });
  const windows = tf.concat(taps, 3);
  const size = rows * columns * from;
  const y = product(tf.reshape(windows, [-1, size]), tf.reshape(kernel, [size, to]));
  return tf.reshape(y, [...windows.shape.slice(0, 3), to]);
}

/** Channels that a vector of the widest processors holds: the depthwise kernels work by whole vectors. */
const LANES = 16;

const hasKernel = (size: number): boolean => size === 3 || size === 5;

/** Whether one kernel computes a depthwise convolution by these weights [k, k, c, 1], with nothing to copy before or after. */
export const isOneKernel = ({ shape }: Tensor, stride: number): boolean =>
  stride === 1 && hasKernel(shape[0]!) && shape[2]! >= LANES;

/**
 * One kernel per channel, k odd, (k − 1) / 2 zeros on each side: x [b, h, w, c], kernel [k, k, c, 1], bias [c] → [b, ⌈h/stride⌉, ⌈w/stride⌉, c]. At a
 * larger stride most of it is computed for nothing, which is faster than TensorFlow's kernel with its gradients.
 */
export function depthwiseConv(x: Tensor, weight: Tensor, bias?: Tensor, stride = 1): Tensor {
  const [size, , channels] = weight.shape as [number, number, number];
  const shift = bias ?? tf.zeros([channels]);
  const fits =
    x.rank === 4 &&
    size % 2 === 1 &&
    x.shape[3] === channels &&
    hasShape(weight, size, size, channels, 1) &&
    hasShape(shift, channels);
  if (!takes([x, weight, shift], fits)) return stockOps.depthwiseConv(x, weight, bias, stride);
  return everyNth(depthwise(x, weight, shift), stride);
}

function depthwise(x: Tensor, weight: Tensor, bias: Tensor): Tensor {
  const size = weight.shape[0]!;
  if (!hasKernel(size)) return depthwiseConvByTaps(x, weight, bias);
  const missing = LANES - x.shape[3]!;
  if (missing <= 0) return kernel('LabDepthwiseConv', { x, kernel: weight, bias }, {});
  /** Zeros for the channels that a vector lacks. */
  const widen = (tensor: Tensor, axis: number): Tensor =>
    tf.pad(
      tensor,
      tensor.shape.map((_, i) => [0, i === axis ? missing : 0]),
    );
  const y = depthwise(widen(x, 3), widen(weight, 2), widen(bias, 0));
  return tf.slice(y, [0, 0, 0, 0], x.shape as [number, number, number, number]);
}

/** Depthwise transposed convolution whose kernel is its stride: x [b, h, w, c], kernel [r, r, c], bias [c] → [b, h·r, w·r, c]. */
export function localProp(x: Tensor, weight: Tensor, bias: Tensor): Tensor {
  const [rate, , channels] = weight.shape as [number, number, number];
  const fits = x.rank === 4 && hasShape(weight, rate, rate, x.shape[3]!) && hasShape(bias, channels);
  if (!takes([x, weight, bias], fits)) return stockOps.localProp(x, weight, bias);
  return kernel('LabLocalProp', { x, kernel: weight, bias }, {});
}

/** softmax(q kᵀ · scale) v per head: qkv [b, n, 3c] → [b, n, c]. */
export function attention(qkv: Tensor, options: AttentionOptions): Tensor {
  const { heads, scale, order = 'qkv-head' } = options;
  requireHeads(qkv, heads);
  if (!takes([qkv], order === 'qkv-head')) return stockOps.attention(qkv, options);
  const [, , c3] = qkv.shape as [number, number, number];
  return kernel('LabAttention', { qkv }, { heads, scale: scale ?? 1 / Math.sqrt(c3 / 3 / heads) });
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
  const next = run(
    'LabAdam',
    { param, mean, square, grad, step, epsilon, keep },
    { beta1, beta2, rest1: 1 - beta1, rest2: 1 - beta2 },
  );
  return { param: next.new_param, mean: next.new_mean, square: next.new_square };
}

export const fusedOps: Ops = {
  layerNorm,
  batchNorm,
  addBias,
  biasGelu,
  matmul: product,
  feedForward,
  addScaled,
  conv,
  depthwiseConv,
  localProp,
  attention,
  adam,
};
