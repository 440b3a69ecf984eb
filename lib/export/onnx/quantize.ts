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
    const [x, name] = node.inputs as [string, string];
    const weight = graph.initializers.get(name);
    if (node.op !== 'MatMul' || weight?.shape.length !== 2) return [node];
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
