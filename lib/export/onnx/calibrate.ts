import { UserError } from '../../util/errors';
import { encodeOnnx, type OnnxGraph } from './graph';
import { multiplied, type Ranges } from './quantize';

/** What a graph takes for one image, [3, h, w]. */
export type Images = Iterable<Float32Array> | AsyncIterable<Float32Array>;

/**
 * The least and the greatest value of whatever a graph multiplies by its matrices, over all images, by ONNX Runtime. Throws UserError where that,
 * a development dependency, is not installed.
 */
export async function calibrate(graph: OnnxGraph, images: Images): Promise<Ranges> {
  const ort = await import('onnxruntime-node').catch((error: Error) => {
    throw new UserError(
      `Calibration needs onnxruntime-node, a development dependency of the checkout: npm install there (${error.message.split('\n')[0]}).`,
    );
  });
  const names = multiplied(graph);
  const outputs = names.map(name => ({ name, type: 'float32' as const }));
  const [input] = graph.inputs;
  const session = await ort.InferenceSession.create(encodeOnnx({ ...graph, outputs: [...graph.outputs, ...outputs] }));
  const ranges = new Map<string, readonly [number, number]>();
  try {
    const dims = [1, ...(input!.shape!.slice(1) as number[])];
    for await (const pixels of images) {
      const results = await session.run({ [input!.name]: new ort.Tensor('float32', pixels, dims) });
      for (const name of names) {
        let [least, greatest] = ranges.get(name) ?? [0, 0]; // 0 is in every range
        for (const value of results[name]!.data as Float32Array) {
          if (value < least) least = value;
          if (value > greatest) greatest = value;
        }
        ranges.set(name, [least, greatest]);
      }
    }
  } finally {
    await session.release();
  }
  return ranges;
}
