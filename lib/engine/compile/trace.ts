import type { StaticTree } from '../../tensor/tree';
import { refusingDraws } from '../../util/random';
import { callerLine, TraceError } from './traceError';
import { type Result, type Trace, type TraceOptions, Tracer } from './tracer';

/**
 * Records what a function of tensors does as a graph of TensorFlow ops, without computing anything.
 * Throws TraceError where the result would not be the function: values read back, tensors from outside disposed, random
 * numbers that would be the same in every call, shapes that depend on values.
 */
export function trace(
  fn: (...args: never[]) => Result,
  args: readonly StaticTree[],
  { capture, ...options }: TraceOptions,
): Trace {
  const refuse = (): never => {
    throw new TraceError(
      `The compiled function draws from a random stream${callerLine()}: the numbers would be the same in every call. Pass them in as a tensor.`,
    );
  };
  tracing = true;
  try {
    return refusingDraws(refuse, () => new Tracer(capture).trace(fn, args, options));
  } finally {
    tracing = false;
  }
}

let tracing = false;

/** Whether a function is being recorded, so that compiled functions which it calls become a part of its graph. */
export function isTracing(): boolean {
  return tracing;
}
