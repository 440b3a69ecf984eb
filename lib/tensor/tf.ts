import type * as TensorFlow from '@tensorflow/tfjs';

export type { Scalar, Tensor, Tensor1D, Tensor2D, Tensor4D } from '@tensorflow/tfjs';

type TF = typeof TensorFlow;

let given: TF | undefined;

/**
 * TensorFlow.js on the engine in use: given by `openEngine()` in Node, by `provideTf()` elsewhere, never loaded by an import. Before
 * that every use of it throws; it never falls back to some other engine.
 */
export let tf: TF = new Proxy({} as TF, {
  get(_, key) {
    if (given) return Reflect.get(given, key); // somebody kept this stand-in: a notebook's cell, a destructured import
    if (typeof key === 'symbol') return undefined; // of printers, which ask every object for some
    throw new Error(
      `tf.${key} was used before there is an engine: call \`await openEngine()\` (lib/engine/open) first, or \`provideTf(tf)\` in a browser.`,
    );
  },
});

/** Makes this TensorFlow.js the one that everything in the lab computes with. */
export function provideTf(provided: TF): void {
  given = provided;
  tf = provided;
}

/** Whether TensorFlow's native library is behind `tf`; otherwise pure JavaScript, several hundred times slower. */
export const isNative = (): boolean => tf.getBackend() === 'tensorflow';
