import { compile } from '../engine/compile/compile';
import { type Tensor, tf } from '../tensor/tf';

/**
 * How strongly each place of the input moves one place of the output: `network` takes x [1, h, w, c] to [1, h', w', d], and the result
 * [h, w] is the norm over c of the gradient of Σ over d of the output at `place`. Luo et al., "Understanding the Effective
 * Receptive Field", 2016. Exactly 0 where the output does not depend on the input. The caller disposes.
 */
export function receptiveField(
  network: (x: Tensor) => Tensor,
  x: Tensor,
  [row, column]: readonly [number, number],
): Tensor {
  const run = compile(
    (x: Tensor) =>
      tf.tidy(() => {
        const atPlace = (x: Tensor) => {
          const y = network(x);
          return tf.sum(tf.slice(y, [0, row, column, 0], [1, 1, 1, y.shape[3]!]));
        };
        const [, height, width] = x.shape;
        return tf.reshape(tf.norm(tf.grad(atPlace)(x), 2, 3), [height!, width!]);
      }),
    { name: 'the receptive field' },
  );
  try {
    return run(x);
  } finally {
    run.dispose();
  }
}

export interface Field {
  /** Of the smallest rectangle that holds every place with an influence. */
  height: number;
  width: number;
  /** Places with an influence. */
  places: number;
}

/** The extent of a receptive field [h, w]. */
export function fieldExtent(field: Tensor): Field {
  const [, width] = field.shape;
  const values = field.dataSync();
  const rows: number[] = [];
  const columns: number[] = [];
  values.forEach((value, i) => {
    if (value === 0) return;
    rows.push(Math.floor(i / width!));
    columns.push(i % width!);
  });
  const span = (places: number[]) =>
    places.length === 0 ? 0 : places.reduce((a, b) => Math.max(a, b)) - places.reduce((a, b) => Math.min(a, b)) + 1;
  return { height: span(rows), width: span(columns), places: rows.length };
}

/** How much of a field's [h, w] influence comes from places at most so many rows and columns away from `place`, for each distance from 0: 1 at the last. */
export function influenceByDistance(field: Tensor, [row, column]: readonly [number, number]): number[] {
  const [height, width] = field.shape as [number, number];
  const shares = new Array<number>(Math.max(row, height - 1 - row, column, width - 1 - column) + 1).fill(0);
  let total = 0;
  field.dataSync().forEach((value, i) => {
    shares[Math.max(Math.abs(Math.floor(i / width) - row), Math.abs((i % width) - column))] += value;
    total += value;
  });
  let sum = 0;
  return shares.map(value => (sum += value) / total);
}

/** Influences as powers of ten relative to the largest: 0 there, −3 where a thousandth is left, −∞ where there is none. */
export function logInfluence(field: Tensor): number[] {
  const values = Array.from(field.dataSync());
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  return values.map(value => Math.log10(value / most));
}
