import { expect } from 'vitest';
import { largest } from '../lib/measure/compare';
import type { Tensor } from '../lib/tensor/tf';

type Values = Tensor | ArrayLike<number> | number;

interface AllcloseMatchers<R> {
  /**
   * Same shape, and no value further from the expected one than `tolerance` times the largest expected value (1 if all are
   * zero). A tolerance wider than the default says why.
   */
  toBeAllclose(expected: Values, tolerance?: number): R;
}

declare module 'vitest' {
  interface Matchers<T = any> extends AllcloseMatchers<T> {}
}

expect.extend({
  toBeAllclose(received: Values, expected: Values, tolerance = 1e-5) {
    const [actual, wanted] = [host(received), host(expected)];
    const shapes = [received, expected].map(value => (isTensor(value) ? `[${value.shape.join(', ')}]` : undefined));
    if (actual.length !== wanted.length || (shapes[0] && shapes[1] && shapes[0] !== shapes[1])) {
      return {
        pass: false,
        message: () => `shape ${shapes[0] ?? actual.length} instead of ${shapes[1] ?? wanted.length}`,
      };
    }
    const limit = tolerance * (largest(wanted) || 1);
    let worst = -1;
    let difference = 0;
    for (let i = 0; i < wanted.length; i++) {
      const d = Math.abs(actual[i] - wanted[i]);
      if (Number.isNaN(d) || d > difference) [worst, difference] = [i, Number.isNaN(d) ? Infinity : d];
    }
    return {
      pass: difference <= limit,
      message: () =>
        `value ${worst} is ${actual[worst]}, expected ${wanted[worst]}: they differ by ${difference}, allowed are ${limit}`,
    };
  },
});

function host(values: Values): ArrayLike<number> {
  if (typeof values === 'number') return [values];
  return isTensor(values) ? values.dataSync<'float32'>() : values;
}

/** Told by what it can do, so that values of another process can be compared where there is no engine. */
function isTensor(values: Values): values is Tensor {
  return typeof values === 'object' && 'dataSync' in values;
}
