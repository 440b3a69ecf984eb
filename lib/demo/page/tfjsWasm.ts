import { setThreadsCount, setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { loadGraphModel } from '@tensorflow/tfjs-converter';
import * as tf from '@tensorflow/tfjs-core';
import { RUNTIME } from '../manifest';
import { address, type Session, THREADS } from './backend';

/** A graph model on TensorFlow.js's WebAssembly. */
export async function openTfjsWasm(path: string, [height, width]: readonly [number, number]): Promise<Session> {
  setWasmPaths(address(RUNTIME));
  setThreadsCount(THREADS);
  if (!(await tf.setBackend('wasm'))) throw new Error('its WebAssembly did not start');
  const model = await loadGraphModel(address(path));
  return {
    async run(values) {
      const images = tf.tensor4d(values, [1, height, width, 3]);
      const output = model.execute({ images }) as tf.Tensor;
      const logits = (await output.data()) as Float32Array;
      tf.dispose([images, output]);
      return { logits };
    },
    async dispose() {
      model.dispose();
    },
  };
}
