import { stockOps } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import type { Attr, Binding } from './binding';

/**
 * The lab's own ops: one table, which the C++ registration (native/ops.inc, which `npm run ops` writes from it), the fusion passes, the ops' face in
 * TypeScript (fused.ts) and the tests read. A new op is an entry here and a kernel in native/.
 *
 * Inputs and outputs are declared as for an einsum, `weight: k n`: a letter is a size, the same wherever it stands; a digit is itself; * is any
 * number of leading sizes. `join?: m n | s` is a list of at most two, counted by the attribute `joins`. All are float32.
 */

/** `weight: k n` → weight; of lists, nothing. */
type NameIn<S> = S extends `${infer Name}: ${string}` ? (Name extends `${string}?` ? never : Name) : never;

type TensorsOf<S extends readonly string[], T = Tensor> = { [Each in S[number] as NameIn<Each>]: T };

type ValuesOf<S extends readonly string[]> = {
  [Each in S[number] as NameIn<Each>]: Each extends `${string}: bool` ? boolean : number;
};

/** What the table says of an op. */
export interface NativeOp<
  I extends readonly string[] = readonly string[],
  A extends readonly string[] = readonly string[],
  O extends readonly string[] = readonly string[],
> {
  readonly inputs: I;
  /** `eps: float`; int, float and bool. */
  readonly attrs: A;
  readonly outputs: O;
  /** The composition of stock ops that its first outputs must equal; differentiable as often as one likes. Gradients have none: theirs is that of their op. */
  stock?(inputs: TensorsOf<I>, attrs: ValuesOf<A>): Tensor[];
  /**
   * The op that computes its gradient: it takes `dy`, and by their names what it needs of the inputs and outputs, and gives `dNAME` for each input that has a
   * gradient.
   */
  readonly gradient?: string;
  /** The op of TensorFlow, of the same inputs, in whose place it stands in every graph. */
  readonly replaces?: string;
}

function op<const I extends readonly string[], const A extends readonly string[], const O extends readonly string[]>(
  inputs: I,
  attrs: A,
  outputs: O,
  more: Pick<NativeOp<I, A, O>, 'stock' | 'gradient' | 'replaces'> = {},
): NativeOp<I, A, O> {
  return { inputs, attrs, outputs, ...more };
}

const allButLast = (x: Tensor): number[] => x.shape.slice(1).map((_, axis) => axis);

export const NATIVE_OPS = {
  // Norms
  LabLayerNorm: op(['x: *c', 'weight: c', 'bias: c'], ['eps: float'], ['y: *c', 'mean: r', 'rstd: r'], {
    stock: ({ x, weight, bias }, { eps }) => [stockOps.layerNorm(x, weight, bias, eps)],
    gradient: 'LabLayerNormGrad',
  }),
  LabLayerNormGrad: op(
    ['dy: *c', 'x: *c', 'weight: c', 'mean: r', 'rstd: r', 'join?: *c'],
    [],
    ['dx: *c', 'dweight: c', 'dbias: c'],
  ),
  LabBatchMoments: op(['x: *c'], [], ['mean: c', 'variance: c'], {
    stock({ x }) {
      const { mean, variance } = tf.moments(x, allButLast(x));
      return [mean, variance];
    },
  }),
  /** Mean and variance are those of x: its gradient goes through them. */
  LabBatchNorm: op(['x: *c', 'weight: c', 'bias: c', 'mean: c', 'variance: c'], ['eps: float'], ['y: *c'], {
    stock: ({ x, weight, bias }, { eps }) => [stockOps.batchNorm(x, weight, bias, eps).y],
    gradient: 'LabBatchNormGrad',
  }),
  LabBatchNormGrad: op(
    ['dy: *c', 'x: *c', 'weight: c', 'mean: c', 'variance: c', 'join?: *c'],
    ['eps: float'],
    ['dx: *c', 'dweight: c', 'dbias: c'],
  ),

  // Activation, bias and residual
  LabBiasGelu: op(['x: *c', 'bias: c'], [], ['y: *c'], {
    stock: ({ x, bias }) => [stockOps.biasGelu(x, bias)],
    gradient: 'LabBiasGeluGrad',
  }),
  LabBiasGeluGrad: op(['dy: *c', 'x: *c', 'bias: c'], [], ['dx: *c', 'dbias: c']),
  LabChannelSum: op(['x: *c'], [], ['sum: c'], { stock: ({ x }) => [tf.sum(x, allButLast(x))] }),
  LabAddScaled: op(['x: b*', 'branch: b*', 'scale: b'], [], ['y: b*'], {
    stock: ({ x, branch, scale }) => [stockOps.addScaled(x, branch, scale)],
  }),

  // GEMM and FFN
  LabProduct: op(
    ['x: m k', 'weight: k n', 'bias: n', 'join?: m n | s'],
    ['gelu: bool', 'constant_weight: bool'],
    ['y: m n'],
    {
      stock: ({ x, weight, bias }, { gelu }) => [
        gelu ? stockOps.biasGelu(tf.matMul(x, weight), bias) : stockOps.matmul(x, weight, bias),
      ],
      gradient: 'LabProductGrad',
    },
  ),
  /** Of the matmul and its bias, without GELU. */
  LabProductGrad: op(['dy: m n', 'x: m k', 'weight: k n', 'scale?: s'], [], ['dx: m k', 'dweight: k n', 'dbias: n']),
  /** `hidden` is empty unless it is kept, and computed again for the gradient. */
  LabFeedForward: op(
    ['x: m k', 'weight1: k h', 'bias1: h', 'weight2: h n', 'bias2: n', 'join?: m n | s'],
    ['keep: bool'],
    ['y: m n', 'hidden: r p'],
    {
      stock: ({ x, weight1, bias1, weight2, bias2 }) => [stockOps.feedForward(x, weight1, bias1, weight2, bias2)],
      gradient: 'LabFeedForwardGrad',
    },
  ),
  LabFeedForwardGrad: op(
    ['dy: m n', 'x: m k', 'weight1: k h', 'bias1: h', 'weight2: h n', 'hidden: r p', 'scale?: s'],
    [],
    ['dx: m k', 'dweight1: k h', 'dbias1: h', 'dweight2: h n', 'dbias2: n'],
  ),

  // Convolutions of single channels
  LabDepthwiseConv: op(['x: b h w c', 'kernel: k k c 1', 'bias: c'], [], ['y: b h w c'], {
    stock: ({ x, kernel, bias }) => [depthwiseConvByTaps(x, kernel, bias)],
    gradient: 'LabDepthwiseConvGrad',
  }),
  LabDepthwiseConvGrad: op(
    ['dy: b h w c', 'x: b h w c', 'kernel: k k c 1', 'join?: b h w c'],
    [],
    ['dx: b h w c', 'dkernel: k k c 1', 'dbias: c'],
  ),
  LabLocalProp: op(['x: b h w c', 'kernel: r r c', 'bias: c'], [], ['y: b H W c'], {
    stock: ({ x, kernel, bias }) => [stockOps.localProp(x, kernel, bias)],
    gradient: 'LabLocalPropGrad',
  }),
  LabLocalPropGrad: op(
    ['dy: b H W c', 'x: b h w c', 'kernel: r r c'],
    [],
    ['dx: b h w c', 'dkernel: r r c', 'dbias: c'],
  ),

  // Attention
  LabAttention: op(['qkv: b n q'], ['heads: int', 'scale: float'], ['y: b n c'], {
    stock: ({ qkv }, { heads, scale }) => [stockOps.attention(qkv, { heads, scale })],
    gradient: 'LabAttentionGrad',
  }),
  LabAttentionGrad: op(['dy: b n c', 'qkv: b n q'], ['heads: int', 'scale: float'], ['dqkv: b n q']),

  /** rest = 1 − β, which float32 would not give from β. */
  LabAdam: op(
    ['param: *', 'mean: *', 'square: *', 'grad: *', 'step: ', 'epsilon: ', 'keep: '],
    ['beta1: float', 'beta2: float', 'rest1: float', 'rest2: float'],
    ['new_param: *', 'new_mean: *', 'new_square: *'],
    {
      stock({ param, mean, square, grad, step, epsilon, keep }, { beta1, beta2 }) {
        const next = stockOps.adam({ param, mean, square }, grad, { beta1, beta2 }, { step, epsilon, keep });
        return [next.param, next.mean, next.square];
      },
    },
  ),

  // TensorFlow's own, by the same operations on every processor
  LabMatMul: op(['a: *xy', 'b: *uv'], ['transpose_a: bool', 'transpose_b: bool'], ['y: *mn'], {
    stock: ({ a, b }, { transpose_a, transpose_b }) => [tf.matMul(a, b, transpose_a, transpose_b)],
  }),
  LabSum: op(['x: o r i'], ['mean: bool'], ['y: o i'], {
    stock: ({ x }, { mean }) => [mean ? tf.mean(x, 1) : tf.sum(x, 1)],
  }),
  LabSoftmax: op(['x: *c'], ['log: bool'], ['y: *c'], {
    stock: ({ x }, { log }) => [log ? tf.logSoftmax(x) : tf.softmax(x)],
  }),
  LabExp: op(['x: *'], [], ['y: *'], { stock: ({ x }) => [tf.exp(x)], replaces: 'Exp' }),
  LabLog: op(['x: *'], [], ['y: *'], { stock: ({ x }) => [tf.log(x)], replaces: 'Log' }),
  LabSqrt: op(['x: *'], [], ['y: *'], { stock: ({ x }) => [tf.sqrt(x)], replaces: 'Sqrt' }),
  LabRsqrt: op(['x: *'], [], ['y: *'], { stock: ({ x }) => [tf.rsqrt(x)], replaces: 'Rsqrt' }),
};

type Table = typeof NATIVE_OPS;
export type OpName = keyof Table;
/** An op's inputs by name, but for its lists. */
export type InputsOf<N extends OpName, T = Tensor> = TensorsOf<Table[N]['inputs'], T>;
export type AttrsOf<N extends OpName> = ValuesOf<Table[N]['attrs']>;
export type OutputsOf<N extends OpName> = TensorsOf<Table[N]['outputs']>;

/** The table without the types of its entries. */
export const opNamed = (name: OpName): NativeOp => NATIVE_OPS[name] as unknown as NativeOp;

/** `weight: k n` → weight; `join?: m n | s` → join. */
const nameIn = (declared: string): string => declared.slice(0, declared.search(/\??:/));
const isList = (declared: string): boolean => /^\w+\?:/.test(declared);

/** Names of an op's inputs in their order, but for its lists. */
export const inputNames = (name: OpName): string[] =>
  opNamed(name)
    .inputs.filter(input => !isList(input))
    .map(nameIn);

export const outputNames = (name: OpName): string[] => opNamed(name).outputs.map(nameIn);

/** How many inputs an op's list takes at most; 0 for an op without such a list, and for what is no op of the lab's. */
export function longestList(op: string, list: string): number {
  const declared = Object.hasOwn(NATIVE_OPS, op)
    ? opNamed(op as OpName).inputs.find(input => input.startsWith(`${list}?:`))
    : undefined;
  return declared === undefined ? 0 : declared.split('|').length;
}

/** Attributes as tfjs-node takes them; lists are empty. Those of other ops are left out. */
export function attrsOf(binding: Binding, name: OpName, values: Readonly<Record<string, number | boolean>>): Attr[] {
  const { attrs, inputs } = opNamed(name);
  const types = { int: binding.TF_ATTR_INT, float: binding.TF_ATTR_FLOAT, bool: binding.TF_ATTR_BOOL };
  return [
    ...attrs.map(declared => {
      const [attr, type] = declared.split(': ') as [string, keyof typeof types];
      return { name: attr, type: types[type], value: values[attr]! };
    }),
    ...inputs.filter(isList).map(input => ({ name: `${nameIn(input)}s`, type: types.int, value: 0 })),
  ];
}

/** A depthwise convolution as a sum over the kernel's entries: tfjs's own has no second derivative. */
export function depthwiseConvByTaps(x: Tensor, kernel: Tensor, bias: Tensor): Tensor {
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
