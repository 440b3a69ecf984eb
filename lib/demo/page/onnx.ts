import type * as Runtime from 'onnxruntime-web';
import { toChannelsFirst } from '../../tensor/layout';
import { address, type Session } from './backend';

/** Runs are queued: a runtime refuses one that begins before another has ended. */
export async function onnxSession(
  ort: typeof Runtime,
  path: string,
  [height, width]: readonly [number, number],
  provider: 'wasm' | 'webgpu',
): Promise<Session> {
  const session = await ort.InferenceSession.create(address(path), { executionProviders: [provider] });
  let before: Promise<unknown> = Promise.resolve();
  const run = async (values: Float32Array): Promise<Record<string, Float32Array>> => {
    const pixels = toChannelsFirst(values, [1, height, width, 3]);
    const results = await session.run({ pixel_values: new ort.Tensor('float32', pixels, [1, 3, height, width]) });
    return Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, data as Float32Array]));
  };
  return {
    run(values) {
      const result = before.then(() => run(values));
      before = result.catch(() => {});
      return result;
    },
    dispose: () => session.release(),
  };
}
