import { ELEMENT_TYPES, type OnnxGraph, type OnnxNode } from './graph';
import { matrixOf } from './quantize';

/** xᵀx [k, k] of what a matrix [k, n] multiplies, by the name of x, where that is not too large. */
export type Grams = ReadonlyMap<string, Float64Array>;

/**
 * Of the matrices' weights this fraction, that of the first ones, stays float32: they are small, and what is wrong after them passes through all
 * that follows. On flowers12's test images, by which this fraction was chosen, the largest difference of a probability would be 2.1e-3 without it,
 * and is 6e-4.
 */
const IN_FLOAT32 = 1 / 12;

/** The largest integer: −128 is left out, so that zero is in the middle. */
const LARGEST = 127;

/** What is added to the diagonal of a Gram matrix, as a fraction of its mean: directions that calibration did not see count a little too. */
const DAMPING = 0.01;

/**
 * The graph with the matrices of its `MatMul`s kept in 8 bits, one scale for each output, and multiplied in float32: a third of the bytes, at
 * about float32's speed, because runtimes compute what depends on constants alone when they load a file. (They would leave DequantizeLinear for each
 * call.)
 */
export function quantizeWeights(graph: OnnxGraph, grams: Grams): OnnxGraph {
  const initializers = new Map(graph.initializers);
  const weights = graph.nodes.map(node => matrixOf(graph, node));
  const total = weights.reduce((sum, weight) => sum + (weight?.data.length ?? 0), 0);
  let seen = 0;
  const nodes = graph.nodes.flatMap((node, i): OnnxNode[] => {
    const weight = weights[i];
    if (!weight) return [node];
    seen += weight.data.length;
    if (seen <= IN_FLOAT32 * total) return [node];
    const [x] = node.inputs as [string];
    const [y] = node.outputs as [string];
    const { integers, scales } = rounded(weight.data as Float32Array, weight.shape[1]!, grams.get(x));
    const [quantized, scale, cast, matrix] = ['quantized', 'scale', 'cast', 'matrix'].map(part => `${y}_${part}`) as [
      string,
      string,
      string,
      string,
    ];
    initializers.set(quantized, { type: 'int8', shape: weight.shape, data: integers });
    initializers.set(scale, { type: 'float32', shape: [scales.length], data: scales });
    return [
      { op: 'Cast', inputs: [quantized], outputs: [cast], attributes: { to: ELEMENT_TYPES.float32 } },
      { op: 'Mul', inputs: [cast, scale], outputs: [matrix], attributes: {} },
      { ...node, inputs: [x, matrix] },
    ];
  });
  return { ...graph, nodes, initializers };
}

/**
 * A matrix [k, n] as integers and a scale for each column. Each row takes up what the rounding of those before it has made wrong of the products
 * with inputs whose Gram matrix is given: the nearest plane of a lattice (Babai 1986), which is GPTQ (Frantar et al., ICLR 2023) with the rows in
 * reverse. Rows of the largest inputs come first, when all others are left to make up for them. Without a Gram matrix each weight is rounded to the nearest.
 */
export function rounded(
  weights: Float32Array,
  columns: number,
  gram?: Float64Array,
): { integers: Int8Array; scales: Float32Array } {
  const rows = weights.length / columns;
  const scales = new Float32Array(columns);
  for (let i = 0; i < weights.length; i++)
    scales[i % columns] = Math.max(scales[i % columns]!, Math.abs(weights[i]!) / LARGEST);
  for (let column = 0; column < columns; column++) scales[column] ||= 1;
  const order = Array.from({ length: rows }, (_, i) => i);
  if (gram) order.sort((a, b) => gram[a * rows + a]! - gram[b * rows + b]!);
  const factor = gram && choleskyFactor(gram, order);
  const integers = new Int8Array(weights.length);
  const errors = new Float64Array(weights.length); // in the order of rounding
  const wanted = new Float64Array(columns);
  for (let i = rows - 1; i >= 0; i--) {
    wanted.fill(0);
    for (let j = i + 1; factor && j < rows; j++) {
      const weight = factor[i * rows + j]! / factor[i * rows + i]!;
      for (let column = 0; column < columns; column++) wanted[column]! += weight * errors[j * columns + column]!;
    }
    const row = order[i]! * columns;
    for (let column = 0; column < columns; column++) {
      const scale = scales[column]!;
      const value = weights[row + column]!;
      const integer = Math.max(-LARGEST, Math.min(LARGEST, Math.round((value + wanted[column]!) / scale)));
      integers[row + column] = integer;
      errors[i * columns + column] = value - integer * scale;
    }
  }
  return { integers, scales };
}

/** The upper triangular R with RᵀR = the matrix, its rows and columns in that order, its diagonal damped. */
function choleskyFactor(matrix: Float64Array, order: readonly number[]): Float64Array {
  const size = order.length;
  const factor = Float64Array.from(matrix, (_, i) => matrix[order[Math.floor(i / size)]! * size + order[i % size]!]!);
  let trace = 0;
  for (let i = 0; i < size; i++) trace += factor[i * size + i]!;
  const damping = (DAMPING * trace) / size || 1; // of inputs that are all 0 none matters
  for (let i = 0; i < size; i++) factor[i * size + i]! += damping;
  for (let i = 0; i < size; i++) {
    const pivot = Math.sqrt(factor[i * size + i]!);
    for (let j = i; j < size; j++) factor[i * size + j]! /= pivot;
    for (let j = i + 1; j < size; j++) {
      const above = factor[i * size + j]!;
      for (let column = j; column < size; column++) factor[j * size + column]! -= above * factor[i * size + column]!;
    }
  }
  return factor;
}
