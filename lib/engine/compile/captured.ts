import type * as TensorFlow from '@tensorflow/tfjs';
import { type Tensor, tf } from '../../tensor/tf';
import type { Optimizer } from './optimizers';

// These closures outlive the trace, and so live apart from the tracer, which would live on in them with all its nodes.

/** What a graph reads anew at each call, beside its arguments. */
export interface Captured {
  /** What is read, the same in every trace: the variable, the tensor as the caller holds it, or who keeps a number. */
  key: object;
  /** The value of now; it stays this object's. */
  read(): Tensor;
  dispose(): void;
}

/** What random numbers inside a compiled function depend on: equal seeds give equal numbers in equal calls, and each call others. */
export interface Seed {
  value: number;
  /** Calls so far. */
  calls: number;
}

/** A rate that an optimizer keeps as a number. */
export function rateOf(optimizer: Optimizer): Captured {
  let value: number | undefined;
  let tensor: Tensor | undefined;
  return {
    key: optimizer,
    read() {
      if (!tensor || value !== optimizer.learningRate) {
        tensor?.dispose();
        value = optimizer.learningRate!;
        tensor = tf.keep(tf.scalar(value));
      }
      return tensor;
    },
    dispose: () => tensor?.dispose(),
  };
}

/** A rate that an optimizer keeps as a tensor, another one whenever it is set. */
export function rateTensorOf(optimizer: Optimizer): Captured {
  return {
    key: optimizer,
    read: () => optimizer.c!,
    dispose() {},
  };
}

/** A seed as the int32 tensor [value, calls]. */
export function seedOf(seed: Seed): Captured {
  let tensor: Tensor | undefined;
  return {
    key: seed,
    read() {
      tensor?.dispose();
      return (tensor = tf.keep(tf.tensor1d([seed.value, seed.calls], 'int32')));
    },
    dispose: () => tensor?.dispose(),
  };
}

export function variableOf(variable: TensorFlow.Variable): Captured {
  return { key: variable, read: () => variable, dispose() {} };
}

/** A captured tensor. The one at hand may be a clone that tfjs made inside and frees at the end of the trace: `own` stays. */
export function tensorOf(key: Tensor, own: Tensor): Captured {
  return { key, read: () => own, dispose: () => own.dispose() };
}
