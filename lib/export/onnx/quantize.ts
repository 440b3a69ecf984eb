import { ELEMENT_TYPES, type Initializer, type OnnxGraph, type OnnxNode } from './graph';

/** Where 8-bit weights have their zero: they are symmetric. Unsigned, because the signed kernels of AVX2 saturate sums of two products. */
const ZERO = 128;

/**
 * The graph with the matrices of its `MatMul`s in 8 bits, one scale for each output, and what they multiply in 8 bits too, by the range that it
 * has in each call (dynamic quantisation). Convolutions, of which few weights are left, norms and attention stay float32.
 */
export function quantizeDynamically(graph: OnnxGraph): OnnxGraph {
  const initializers = new Map(graph.initializers);
  const zero = 'quantized_zero';
  initializers.set(zero, { type: 'uint8', shape: [], data: Uint8Array.of(ZERO) });
  const quantized = new Map<string, [values: string, scale: string, zero: string]>();
  const nodes = graph.nodes.flatMap((node): OnnxNode[] => {
    const weight = matrixOf(graph, node);
    if (!weight) return [node];
    const [x, name] = node.inputs as [string, string];
    const { values, scales } = quantizeColumns(weight);
    const [weightName, scaleName] = [`${name}_quantized`, `${name}_scale`];
    initializers.set(weightName, values);
    initializers.set(scaleName, scales);
    const added: OnnxNode[] = [];
    const one = (op: string, inputs: string[], outputs: string[], attributes: OnnxNode['attributes'] = {}): void =>
      void added.push({ op, inputs, outputs, attributes });
    let input = quantized.get(x);
    if (!input) {
      input = [`${x}_quantized`, `${x}_scale`, `${x}_zero`];
      quantized.set(x, input);
      one('DynamicQuantizeLinear', [x], input);
    }
    const [y] = node.outputs as [string];
    one('MatMulInteger', [input[0], weightName, input[2], zero], [`${y}_integers`]);
    one('Cast', [`${y}_integers`], [`${y}_sums`], { to: ELEMENT_TYPES.float32 });
    one('Mul', [input[1], scaleName], [`${y}_scale_of_sums`]);
    one('Mul', [`${y}_sums`, `${y}_scale_of_sums`], [y]);
    return added;
  });
  return { ...graph, nodes, initializers };
}

/** The least and the greatest value that an input of a matrix has. */
export type Ranges = ReadonlyMap<string, readonly [least: number, greatest: number]>;

/** What the graph multiplies by constant matrices: what has to be calibrated for `quantizeStatically`. */
export const multiplied = (graph: OnnxGraph): string[] => [
  ...new Set(graph.nodes.filter(node => matrixOf(graph, node)).map(({ inputs: [x] }) => x!)),
];

/** The constant matrix [k, n] that a node multiplies by, where it does that. */
export const matrixOf = ({ initializers }: OnnxGraph, { op, inputs }: OnnxNode): Initializer | undefined => {
  const weight = op === 'MatMul' ? initializers.get(inputs[1]!) : undefined;
  return weight?.shape.length === 2 ? weight : undefined;
};

/**
 * The same with ranges that were found before (static quantisation), written as QuantizeLinear and DequantizeLinear around what stays a
 * `MatMul` (QDQ): a runtime that knows the pattern multiplies in 8 bits, any other computes what that comes to. Throws for an input without a
 * range.
 */
export function quantizeStatically(graph: OnnxGraph, ranges: Ranges): OnnxGraph {
  const initializers = new Map(graph.initializers);
  const scalar = (name: string, type: 'float32' | 'uint8', value: number): string => {
    initializers.set(name, {
      type,
      shape: [],
      data: type === 'float32' ? Float32Array.of(value) : Uint8Array.of(value),
    });
    return name;
  };
  const dequantized = new Map<string, string>();
  const nodes = graph.nodes.flatMap((node): OnnxNode[] => {
    const weight = matrixOf(graph, node);
    if (!weight) return [node];
    const [x, name] = node.inputs as [string, string];
    const added: OnnxNode[] = [];
    if (!dequantized.has(x)) {
      const range = ranges.get(x);
      if (!range) throw new Error(`There is no range of ${x}.`);
      const [low, high] = [Math.min(0, range[0]), Math.max(0, range[1])]; // 0 has to be one of the 256 values
      const step = (high - low) / 255 || 1;
      const by = [scalar(`${x}_scale`, 'float32', step), scalar(`${x}_zero`, 'uint8', Math.round(-low / step))];
      const [integers, floats] = [`${x}_quantized`, `${x}_dequantized`];
      added.push({ op: 'QuantizeLinear', inputs: [x, ...by], outputs: [integers], attributes: {} });
      added.push({ op: 'DequantizeLinear', inputs: [integers, ...by], outputs: [floats], attributes: {} });
      dequantized.set(x, floats);
    }
    const { values, scales } = quantizeColumns(weight);
    const parts = ['quantized', 'scales', 'zeros'].map(part => `${name}_${part}`) as [string, string, string];
    initializers.set(parts[0], values);
    initializers.set(parts[1], scales);
    const zeros = new Uint8Array(scales.shape[0]!).fill(ZERO);
    initializers.set(parts[2], { type: 'uint8', shape: scales.shape, data: zeros });
    const matrix = `${name}_dequantized`;
    added.push({ op: 'DequantizeLinear', inputs: parts, outputs: [matrix], attributes: { axis: 1 } });
    return [...added, { ...node, inputs: [dequantized.get(x)!, matrix] }];
  });
  return { ...graph, nodes, initializers };
}

/** A matrix [k, n] in 8 bits, and the scale of each column, by its largest value. */
function quantizeColumns({ shape, data }: Initializer): { values: Initializer; scales: Initializer } {
  const weights = data as Float32Array;
  const [, columns] = shape as [number, number];
  const scales = new Float32Array(columns);
  for (let i = 0; i < weights.length; i++)
    scales[i % columns] = Math.max(scales[i % columns]!, Math.abs(weights[i]!) / (ZERO - 1));
  const values = Uint8Array.from(weights, (value, i) => ZERO + Math.round(value / (scales[i % columns]! || 1)));
  return {
    values: { type: 'uint8', shape, data: values },
    scales: { type: 'float32', shape: [columns], data: scales },
  };
}
