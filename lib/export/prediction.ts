import { asyncStopwatch, type Contender } from '../measure/latency';
import type { OnnxEngine } from '../measure/latencyTable';
import { randomImages } from '../measure/prediction';
import type { Model } from '../model/module';
import { untrained } from '../train/trained';
import { UserError } from '../util/errors';
import { threadsPerOp } from '../util/threads';
import { int8Of, onnxOf } from './graphs';
import { encodeOnnx } from './onnx/graph';

/**
 * The prediction of `batch` images by what the lab exports, from host memory to logits in host memory, on as many threads as TensorFlow has.
 * Throws UserError where the runtime, a development dependency, is not installed.
 */
export async function onnxPrediction(
  model: Model,
  batch: number,
  engine: OnnxEngine,
): Promise<Contender & { dispose(): void }> {
  const ort = await runtime(engine);
  const source = untrained(model);
  const file = engine === 'onnx-int8' ? await int8Of(source, { how: 'dynamic' }) : encodeOnnx(onnxOf(source));
  const intraOpNumThreads = threadsPerOp();
  const session = await ort.InferenceSession.create(file, {
    executionProviders: [engine === 'wasm' ? 'wasm' : 'cpu'],
    intraOpNumThreads,
  });
  const dims = [batch, 3, ...model.inputSize];
  const pixels = randomImages(model, batch);
  const work = () => session.run({ pixel_values: new ort.Tensor('float32', pixels, dims) });
  return { ...asyncStopwatch(model.name, work), dispose: () => void session.release() };
}

async function runtime(
  engine: OnnxEngine,
): Promise<Pick<typeof import('onnxruntime-node'), 'InferenceSession' | 'Tensor'>> {
  const name = engine === 'wasm' ? 'onnxruntime-web' : 'onnxruntime-node';
  try {
    if (engine !== 'wasm') return await import('onnxruntime-node');
    const web = await import('onnxruntime-web');
    web.env.wasm.numThreads = threadsPerOp();
    return web;
  } catch (error) {
    throw new UserError(
      `The engine '${engine}' needs ${name}, a development dependency of the checkout: npm install there (${(error as Error).message.split('\n')[0]}).`,
    );
  }
}
