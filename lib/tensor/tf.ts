import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import type * as TensorFlow from '@tensorflow/tfjs';
import { ADDON } from '../engine/build/addon';

export type {
  DataType,
  Rank,
  Scalar,
  Tensor,
  Tensor1D,
  Tensor2D,
  Tensor3D,
  Tensor4D,
  TensorLike,
} from '@tensorflow/tfjs';

const load = createRequire(__filename);

/** tfjs-node 4.22 calls `util.is*` functions that Node 22 deprecates and 23 removed. */
function restoreUtil(): void {
  const missing: Record<string, (value: unknown) => boolean> = {
    isArray: Array.isArray,
    isNullOrUndefined: value => value === null || value === undefined,
    isNumber: value => typeof value === 'number',
    isString: value => typeof value === 'string',
  };
  const target = load('node:util') as Record<string, unknown>;
  Object.assign(target, missing); // also where they are there: Node 22 warns of each that is called
}

function loadTensorFlow(): { tf: typeof TensorFlow; native: boolean } {
  if (process.env.EDGEVIT_ENGINE !== 'js' && existsSync(ADDON)) {
    process.env.TF_CPP_MIN_LOG_LEVEL ??= '2'; // before the addon loads, or TensorFlow prints banners
    restoreUtil();
    return { tf: load('@tensorflow/tfjs-node') as typeof TensorFlow, native: true };
  }
  const tf = load('@tensorflow/tfjs') as typeof TensorFlow;
  tf.setBackend('cpu');
  return { tf, native: false };
}

const loaded = loadTensorFlow();

/** TensorFlow.js on the engine in use. Everything in the lab takes it from here. */
export const tf = loaded.tf;

/** Whether TensorFlow's native library is behind `tf`; otherwise the pure-JS backend, several hundred times slower. */
export const native = loaded.native;
