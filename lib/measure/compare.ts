import { counted } from '../util/text';
import type { TensorSummary } from './fixture';

/**
 * What float32 reaches against a float64 reference, as |actual − expected| / largest |expected| of the tensor. Relative
 * to the tensor, not to each value: a value near zero is a difference of large ones, and carries their rounding.
 */
export const OUTPUT_TOLERANCE = 2e-6;

/** Gradients and training traces: sums over whole batches, and errors that grow from step to step. */
export const GRADIENT_TOLERANCE = 1e-4;

/** The article's classifier: 150,528 products that are added up in one row, by our matmul as by TensorFlow's matrix-vector kernel, so rounding adds up too. */
export const LONG_SUM_TOLERANCE = 2e-5;

/** The largest relative error over what was compared, and where it is. A shape or name that differs counts as infinite. */
export class Comparison {
  error = 0;
  where = 'nothing compared';

  constructor(
    /** The case of the fixture. */
    readonly name: string,
    /** What is compared: outputs, gradients, a training trace. */
    readonly what: string,
    readonly tolerance: number,
  ) {}

  get passed(): boolean {
    return this.error <= this.tolerance && this.where !== 'nothing compared';
  }

  /** Compares values, relative to `scale`. */
  values(where: string, actual: ArrayLike<number>, expected: ArrayLike<number>, scale = largest(expected)): void {
    if (actual.length !== expected.length) {
      this.note(`${where}: ${counted(actual.length, 'value')} instead of ${expected.length}`, Infinity);
      return;
    }
    let difference = 0;
    for (let i = 0; i < expected.length; i++) difference = Math.max(difference, Math.abs(actual[i] - expected[i])); // NaN stays NaN
    this.note(where, difference === 0 ? 0 : difference / scale);
  }

  /** Compares a tensor (values in the fixture's order) with its shape, statistics and samples, relative to `scale`. */
  summary(
    where: string,
    shape: readonly number[],
    values: Float32Array,
    expected: TensorSummary,
    scale = expected.absmax,
  ): void {
    if (shape.join() !== expected.shape.join()) {
      this.note(`${where}: [${shape.join(', ')}] instead of [${expected.shape.join(', ')}]`, Infinity);
      return;
    }
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const std = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    this.values(
      `${where}, statistics`,
      [mean, std, largest(values)],
      [expected.mean, expected.std, expected.absmax],
      scale,
    );
    if (expected.first16)
      this.values(`${where}, first values`, values.subarray(0, expected.first16.length), expected.first16, scale);
    this.values(
      `${where}, samples`,
      expected.sample_idx.map(index => values[index] ?? NaN),
      expected.sample,
      scale,
    );
  }

  /** Compares names or counts, which agree or do not. */
  same(where: string, actual: string | number, expected: string | number): void {
    this.note(
      actual === expected ? where : `${where}: ${actual} instead of ${expected}`,
      actual === expected ? 0 : Infinity,
    );
  }

  private note(where: string, error: number): void {
    if (error <= this.error && this.where !== 'nothing compared') return;
    this.error = Number.isNaN(error) ? Infinity : error;
    this.where = where;
  }
}

/** The largest absolute value. */
export function largest(values: ArrayLike<number>): number {
  let max = 0;
  for (let i = 0; i < values.length; i++) max = Math.max(max, Math.abs(values[i]));
  return max;
}
