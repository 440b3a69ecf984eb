import { UserError } from '../../util/errors';
import { encodeOnnx, type OnnxGraph } from './graph';
import { multiplied, type Ranges } from './quantize';
import type { Grams } from './quantizeWeights';

/** What a graph takes for one image, [3, h, w]. */
export type Images = Iterable<Float32Array> | AsyncIterable<Float32Array>;

/** The least and the greatest value of whatever a graph multiplies by its matrices, over all images. Throws as `inputsOfMatrices`. */
export async function calibrate(graph: OnnxGraph, images: Images): Promise<Ranges> {
  const ranges = new Map<string, readonly [number, number]>();
  for await (const { name, values } of inputsOfMatrices(graph, images)) {
    let [least, greatest] = ranges.get(name) ?? [0, 0]; // 0 is in every range
    for (const value of values) {
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    }
    ranges.set(name, [least, greatest]);
  }
  return ranges;
}

/** Of one image so many rows are enough, evenly spaced: pixels of one image are alike. A multiple of 4. */
const ROWS = 36;

/** Of more channels xᵀx is too large, and far more than so many rows tell: the article's classifier takes 150,528. */
const MOST_CHANNELS = 2048;

/** xᵀx of whatever a graph multiplies by its matrices, x [n, k], k at most `MOST_CHANNELS`, over rows of all images. Throws as `inputsOfMatrices`. */
export async function gramsOf(graph: OnnxGraph, images: Images): Promise<Grams> {
  const grams = new Map<string, Float64Array>();
  for await (const { name, values, channels: k } of inputsOfMatrices(graph, images)) {
    if (k > MOST_CHANNELS) continue;
    const gram = grams.get(name) ?? new Float64Array(k * k);
    grams.set(name, gram);
    const rows = values.length / k;
    const taken = Math.min(ROWS, rows);
    const row = (n: number): Float32Array => {
      const start = Math.floor((n * rows) / taken) * k;
      return n < taken ? values.subarray(start, start + k) : new Float32Array(k);
    };
    for (let n = 0; n < taken; n += 4) addProducts(gram, [row(n), row(n + 1), row(n + 2), row(n + 3)]);
  }
  for (const gram of grams.values()) {
    const k = Math.sqrt(gram.length);
    for (let i = 0; i < k; i++) for (let j = 0; j < i; j++) gram[i * k + j] = gram[j * k + i]!;
  }
  return grams;
}

/** Adds xᵀx to the upper triangle of a matrix. Four rows at a time take a third of the time that they take one by one. */
function addProducts(gram: Float64Array, [a, b, c, d]: [Float32Array, Float32Array, Float32Array, Float32Array]): void {
  const k = a.length;
  for (let i = 0; i < k; i++) {
    const [ai, bi, ci, di] = [a[i]!, b[i]!, c[i]!, d[i]!];
    for (let j = i; j < k; j++) gram[i * k + j]! += ai * a[j]! + bi * b[j]! + ci * c[j]! + di * d[j]!;
  }
}

/**
 * What a graph multiplies by each of its matrices, [n, channels], image by image, by ONNX Runtime. Throws UserError where that, a development
 * dependency, is not installed.
 */
async function* inputsOfMatrices(
  graph: OnnxGraph,
  images: Images,
): AsyncGenerator<{ name: string; values: Float32Array; channels: number }> {
  const ort = await import('onnxruntime-node').catch((error: Error) => {
    throw new UserError(
      `Calibration needs onnxruntime-node, a development dependency of the checkout: npm install there (${error.message.split('\n')[0]}).`,
    );
  });
  const names = multiplied(graph);
  const outputs = names.map(name => ({ name, type: 'float32' as const }));
  const [input] = graph.inputs;
  const session = await ort.InferenceSession.create(encodeOnnx({ ...graph, outputs: [...graph.outputs, ...outputs] }));
  try {
    const dims = [1, ...(input!.shape!.slice(1) as number[])];
    for await (const pixels of images) {
      const results = await session.run({ [input!.name]: new ort.Tensor('float32', pixels, dims) });
      for (const name of names) {
        const { data, dims } = results[name]!;
        yield { name, values: data as Float32Array, channels: dims[dims.length - 1]! };
      }
    }
  } finally {
    await session.release();
  }
}
