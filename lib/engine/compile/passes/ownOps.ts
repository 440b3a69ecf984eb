import type { Binding } from '../../binding';
import { NATIVE_OPS } from '../../nativeOps';
import { dtypeOf, type Graph, type Node, type Output, shapeOf } from '../ir';
import { type Rule, rewrite } from './simplify';

/**
 * TensorFlow's matmuls, sums, softmax, exp, log and roots (oneDNN's and Eigen's) as kernels of the lab's own, float32 only. They are
 * no faster, but their bytes are the same on every processor.
 */
export function ownOps(binding: Binding, graph: Graph): Graph {
  return rewrite(binding, graph, [(node, rewriting) => RULES[node.op]?.(node, rewriting)]);
}

const size = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

const isFloat = (node: Node, { TF_FLOAT }: Binding): boolean =>
  node.inputs[0] !== undefined && dtypeOf(node.inputs[0]) === TF_FLOAT;

/** A matmul; `transposed` names its attributes. */
const matmul =
  (transposed: readonly [string, string]): Rule =>
  (node, graph) => {
    const [a, b] = node.inputs as [Output, Output];
    const leading = node.outputs[0]!.shape.slice(0, -2);
    if (!isFloat(node, graph.binding)) return undefined;
    /** One matrix for all, once for each. */
    const each = (matrix: Output): Output => {
      const shape = [...leading, ...shapeOf(matrix).slice(-2)];
      if (shape.join() === shapeOf(matrix).join()) return matrix;
      const outputs = [{ dtype: graph.binding.TF_INT32, shape: [shape.length] }];
      const dims: Node = { op: 'Const', attrs: [], inputs: [], outputs, values: Int32Array.from(shape) };
      return graph.node('BroadcastTo', [matrix, { node: dims, index: 0 }], shape);
    };
    const isSet = (name: string) => node.attrs.some(attr => attr.name === name && attr.value === true);
    return graph.native('LabMatMul', { a: each(a), b: each(b) }, node.outputs[0]!.shape, {
      transpose_a: isSet(transposed[0]),
      transpose_b: isSet(transposed[1]),
    });
  };

/** A sum, or mean, over neighbouring axes: what lies before and behind them is two axes. */
const sum =
  (mean: boolean): Rule =>
  (node, graph) => {
    const [x, { node: constant }] = node.inputs as [Output, Output];
    if (!isFloat(node, graph.binding) || !constant.values) return undefined;
    const shape = shapeOf(x);
    const axes = [...constant.values].map(axis => (Number(axis) + shape.length) % shape.length).sort((a, b) => a - b);
    if (axes.some((axis, i) => axis !== axes[0]! + i)) return undefined;
    const [begin, end] = axes.length ? [axes[0]!, axes[0]! + axes.length] : [shape.length, shape.length];
    const [outer, count, inner] = [shape.slice(0, begin), shape.slice(begin, end), shape.slice(end)].map(size) as [
      number,
      number,
      number,
    ];
    const sums = graph.native('LabSum', { x: graph.reshape(x, [outer, count, inner]) }, [outer, inner], { mean });
    return graph.reshape(sums, node.outputs[0]!.shape);
  };

const softmax =
  (log: boolean): Rule =>
  (node, graph) =>
    isFloat(node, graph.binding)
      ? graph.native('LabSoftmax', { x: node.inputs[0]! }, node.outputs[0]!.shape, { log })
      : undefined;

/** An op of the lab's that takes what TensorFlow's takes. */
const sameInputs =
  (op: string): Rule =>
  (node, graph) =>
    isFloat(node, graph.binding) ? graph.node(op, [...node.inputs], node.outputs[0]!.shape) : undefined;

const constant = (values: Float32Array, shape: number[], { TF_FLOAT }: Binding): Output => ({
  node: { op: 'Const', attrs: [], inputs: [], outputs: [{ dtype: TF_FLOAT, shape }], values },
  index: 0,
});

/** x^1.5, which the gradient of rsqrt takes. */
const power: Rule = (node, graph) => {
  const [x, { node: cast }] = node.inputs as [Output, Output];
  const exponent = cast.op === 'Cast' ? cast.inputs[0]!.node : cast;
  if (!isFloat(node, graph.binding) || exponent.values?.length !== 1 || exponent.values[0] !== 1.5) return undefined;
  return graph.node('Mul', [x, graph.native('LabSqrt', { x }, shapeOf(x), {})], node.outputs[0]!.shape);
};

/** The side of a pool's windows if they are square and tile an image of this shape [b, h, w, c]. */
function tiles({ attrs }: Node, [, height, width]: number[]): number | undefined {
  const [ksize, strides] = ['ksize', 'strides'].map(
    wanted => attrs.find(({ name }) => name === wanted)?.value as number[],
  );
  const side = ksize![1]!;
  const isSquare = ksize![2] === side && strides![1] === side && strides![2] === side;
  return isSquare && height! % side === 0 && width! % side === 0 ? side : undefined;
}

/** The mean of each window: of its columns, then of its rows. */
const averagePool: Rule = (node, graph) => {
  const x = node.inputs[0]!;
  const [b, h, w, c] = shapeOf(x) as [number, number, number, number];
  const side = isFloat(node, graph.binding) ? tiles(node, shapeOf(x)) : undefined;
  if (!side) return undefined;
  const mean = (x: Output, outer: number, inner: number) =>
    graph.native('LabSum', { x: graph.reshape(x, [outer, side, inner]) }, [outer, inner], { mean: true });
  return graph.reshape(mean(mean(x, (b * h) / side, w * c), (b * h * w) / side ** 2, c), node.outputs[0]!.shape);
};

/** Each pixel's gradient, divided among its window. */
const averagePoolGradient: Rule = (node, graph) => {
  const dy = node.inputs[1]!;
  const { shape } = node.outputs[0]!;
  const side = dtypeOf(dy) === graph.binding.TF_FLOAT ? tiles(node, shape) : undefined;
  if (!side) return undefined;
  const channels = shape[3]!;
  const kernel = new Float32Array(side * side * channels).fill(1 / side ** 2);
  const inputs = {
    x: dy,
    kernel: constant(kernel, [side, side, channels], graph.binding),
    bias: constant(new Float32Array(channels), [channels], graph.binding),
  };
  return graph.native('LabLocalProp', inputs, shape, {});
};

const RULES: Record<string, Rule> = {
  MatMul: matmul(['transpose_a', 'transpose_b']),
  BatchMatMulV2: matmul(['adj_x', 'adj_y']),
  Sum: sum(false),
  Mean: sum(true),
  Softmax: softmax(false),
  LogSoftmax: softmax(true),
  Pow: power,
  AvgPool: averagePool,
  AvgPoolGrad: averagePoolGradient,
  ...Object.fromEntries(
    Object.entries(NATIVE_OPS).flatMap(([name, { replaces }]) => (replaces ? [[replaces, sameInputs(name)]] : [])),
  ),
};
