import type { Attr, Binding, Values } from '../binding';
import { type Graph, type Node, type Output, reachable } from './ir';
import { TraceError } from './traceError';

/**
 * Batches for which a function is traced to find what of its graph depends on the batch: primes that no network has as a size, and close
 * together, so that the fused kernels for many rows are taken for all of them or none.
 */
export const BATCHES = [131, 137, 139] as const;

/**
 * One graph for every batch, of three that a function gave for BATCHES: they must be the same but for shapes and for constants that are
 * linear in the batch, or a number divided by it. Those are computed, when the graph runs, from the first dimension of `input`, a
 * placeholder. Throws TraceError where the graphs differ in anything else.
 */
export function unify(binding: Binding, graphs: readonly Graph[], isDynamic: readonly boolean[]): Graph {
  const orders = graphs.map(({ inputs, outputs }) => [...new Set([...inputs, ...reachable(outputs)])]);
  const places = orders.map(order => new Map(order.map((node, place) => [node, place])));
  const differ = (what: string): never => {
    throw new TraceError(
      `The function can't have a dynamic batch: ${what} for ${BATCHES.join(', ')} examples. Give it a batch of a fixed size.`,
    );
  };
  if (orders.some(order => order.length !== orders[0]!.length)) differ('it does other things');

  const unified: Node[] = [];
  const dims = (shapes: readonly number[][]) =>
    shapes[0]!.map((size, axis) => (shapes.every(shape => shape[axis] === size) ? size : -1));
  const leading = isDynamic.indexOf(true);
  let batch: Output | undefined;
  /** The batch as an int32 scalar. */
  const size = (): Output => (batch ??= batchOf(binding, { node: unified[leading]!, index: 0 }));

  for (const place of orders[0]!.keys()) {
    const nodes = orders.map(order => order[place]!);
    const [first] = nodes as [Node];
    const wiring = nodes.map(({ op, inputs }, i) =>
      JSON.stringify([op, inputs.map(({ node, index }) => [places[i]!.get(node), index])]),
    );
    if (wiring.some(each => each !== wiring[0])) differ(`${first.op} takes its place in other ways`);
    const outputs = first.outputs.map(({ dtype }, i) => ({
      dtype,
      shape: dims(nodes.map(node => node.outputs[i]!.shape)),
    }));
    const inputs = first.inputs.map(({ node, index }) => ({ node: unified[places[0]!.get(node)!]!, index }));
    if (first.values) {
      unified.push(constantOf(binding, nodes, size) ?? differ('a constant has other values'));
      continue;
    }
    const attrs = first.op === 'Placeholder' ? withShape(first.attrs, outputs[0]!.shape) : first.attrs;
    const same = nodes.every(
      ({ attrs }) => first.op === 'Placeholder' || JSON.stringify(attrs) === JSON.stringify(first.attrs),
    );
    if (!same) differ(`${first.op} has other attributes`);
    unified.push({ ...first, attrs, inputs, outputs });
  }
  return {
    inputs: graphs[0]!.inputs.map((_, i) => unified[i]!),
    outputs: graphs[0]!.outputs.map(({ node, index }) => ({ node: unified[places[0]!.get(node)!]!, index })),
  };
}

function withShape(attrs: readonly Attr[], shape: readonly number[]): Attr[] {
  return attrs.map(attr => (attr.name === 'shape' ? { ...attr, value: shape } : attr));
}

function int32(binding: Binding, values: readonly number[], shape: readonly number[] = [values.length]): Output {
  const outputs = [{ dtype: binding.TF_INT32, shape: [...shape] }];
  return { node: { op: 'Const', attrs: [], inputs: [], outputs, values: Int32Array.from(values) }, index: 0 };
}

function nodeOf(
  op: string,
  inputs: readonly Output[],
  dtype: number,
  shape: number[],
  attrs: readonly Attr[] = [],
): Node {
  return { op, attrs, inputs, outputs: [{ dtype, shape }] };
}

function batchOf(binding: Binding, input: Output): Output {
  const { TF_INT32 } = binding;
  const rank = input.node.outputs[0]!.shape.length;
  const shape = nodeOf('Shape', [input], TF_INT32, [rank]);
  const first = nodeOf('Slice', [{ node: shape, index: 0 }, int32(binding, [0]), int32(binding, [1])], TF_INT32, [1]);
  return { node: nodeOf('Reshape', [{ node: first, index: 0 }, int32(binding, [], [0])], TF_INT32, []), index: 0 };
}

/** The constant that the same node is for each of BATCHES, as a function of the batch; nothing where it is another function. */
function constantOf(binding: Binding, nodes: readonly Node[], batch: () => Output): Node | undefined {
  const [first] = nodes as [Node];
  const { dtype, shape } = first.outputs[0]!;
  const shapes = nodes.map(node => node.outputs[0]!.shape);
  const ofOneShape = shapes.every(other => other.join() === shape.join());
  if (ofOneShape && nodes.every(node => sameBytes(node.values!, first.values!))) return first; // weights, mostly, which are large
  const values = nodes.map(node => Array.from(node.values as ArrayLike<number>));
  if (ofOneShape) {
    if (dtype === binding.TF_INT32) return linear(binding, values, shape, batch());
    if (dtype === binding.TF_FLOAT) return divided(binding, values, shape, batch());
    return undefined;
  }
  // Zeros and ones of the batch's shape, and others that are all the same.
  const [value] = values[0]!;
  if (
    shapes.some(other => other.length !== shape.length) ||
    dtype === binding.TF_INT64 ||
    dtype === binding.TF_COMPLEX64
  )
    return undefined;
  if (values.some(other => !other.length || other.some(each => !Object.is(each, value)))) return undefined;
  const size = linear(binding, shapes, [shape.length], batch());
  const scalar: Node = { ...first, outputs: [{ dtype, shape: [] }], values: first.values!.slice(0, 1) };
  const unknown = shape.map((length, axis) => (shapes.every(other => other[axis] === length) ? length : -1));
  return (
    size &&
    nodeOf(
      'Fill',
      [
        { node: size, index: 0 },
        { node: scalar, index: 0 },
      ],
      dtype,
      unknown,
    )
  );
}

const sameBytes = (a: Values, b: Values): boolean =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

/** slope · batch + offset, in integers. */
function linear(binding: Binding, values: readonly number[][], shape: number[], batch: Output): Node | undefined {
  const [a, b, c] = BATCHES;
  const slopes = values[0]!.map((value, i) => (values[1]![i]! - value) / (b - a));
  const offsets = slopes.map((slope, i) => values[0]![i]! - slope * a);
  const holds = slopes.every((slope, i) => Number.isInteger(slope) && slope * c + offsets[i]! === values[2]![i]);
  if (!holds) return undefined;
  const scaled = nodeOf('Mul', [int32(binding, slopes, shape), batch], binding.TF_INT32, shape);
  return nodeOf('AddV2', [{ node: scaled, index: 0 }, int32(binding, offsets, shape)], binding.TF_INT32, shape);
}

/** slope · batch or numerator / batch, each as float32 rounds it: the size of a mean and its gradient's factor. */
function divided(binding: Binding, values: readonly number[][], shape: number[], batch: Output): Node | undefined {
  const { TF_FLOAT } = binding;
  const fits = (of: (batch: number, value: number) => number) =>
    values[0]!.map((value, i) => {
      const factor = of(BATCHES[0], value);
      return BATCHES.every((size, k) => Math.abs(of(size, values[k]![i]!) - factor) <= 1e-6 * Math.abs(factor))
        ? factor
        : undefined;
    });
  const float = nodeOf('Cast', [batch], TF_FLOAT, [], [{ name: 'DstT', type: binding.TF_ATTR_TYPE, value: TF_FLOAT }]);
  for (const [op, of] of [
    ['Mul', (size: number, value: number) => value / size],
    ['RealDiv', (size: number, value: number) => value * size],
  ] as const) {
    const factors = fits(of);
    if (factors.includes(undefined)) continue;
    const outputs = [{ dtype: TF_FLOAT, shape: [...shape] }];
    const constant: Node = {
      op: 'Const',
      attrs: [],
      inputs: [],
      outputs,
      values: Float32Array.from(factors as number[]),
    };
    return nodeOf(
      op,
      [
        { node: constant, index: 0 },
        { node: float, index: 0 },
      ],
      TF_FLOAT,
      shape,
    );
  }
  return undefined;
}
