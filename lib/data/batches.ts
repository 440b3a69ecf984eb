import { ahead } from '../util/ahead';
import { random } from '../util/random';
import type { Batch } from './collate';
import type { Split } from './dataset';
import { type AugmentationOptions, parseAugmentation } from './transforms/augmentation';
import { batchMaker } from './workers';

export type { Batch } from './collate';

export interface BatchOptions {
  batchSize: number;
  /** Side of the square that the network sees, or [height, width]. */
  size: number | readonly [height: number, width: number];
  augment?: AugmentationOptions;
  /** Of order and augmentation (default 0). */
  seed?: string | number;
  /** Counts from 0; with the seed, the source of all randomness. */
  epoch?: number;
  /** Random order, new in each epoch (default: the split's own order). */
  shuffle?: boolean;
  /** Leaves out a last batch that is not full. */
  dropLast?: boolean;
  /** The first batch to make (default 0): a resumed run resumes in the middle of its epoch. */
  from?: number;
  /** Threads that make batches (default 1); 0 makes them in this one, when they are asked for. */
  workers?: number;
  /** Batches under way at once (default 4). */
  depth?: number;
}

/** How many batches an epoch has. */
export function batchesPerEpoch(
  split: { length: number },
  { batchSize, dropLast = false }: Pick<BatchOptions, 'batchSize' | 'dropLast'>,
): number {
  return dropLast ? Math.floor(split.length / batchSize) : Math.ceil(split.length / batchSize);
}

/**
 * One epoch. Worker threads make the next batches while this one trains, so that the network doesn't wait for them. Equal
 * (seed, epoch) give equal bytes, whatever the number of workers; leaving the loop early is fine.
 */
export async function* batches(split: Split, options: BatchOptions): AsyncGenerator<Batch> {
  const { batchSize, size, seed = 0, epoch = 0, shuffle = false, from = 0, workers = 1, depth = 4 } = options;
  const augment = parseAugmentation(options.augment);
  const shape = typeof size === 'number' ? ([size, size] as const) : size;
  const order = shuffle
    ? random(seed).fork('shuffle', epoch).permutation(split.length)
    : Array.from({ length: split.length }, (_, i) => i);
  const numbers = Array.from({ length: Math.max(0, batchesPerEpoch(split, options) - from) }, (_, i) => from + i);
  const maker = batchMaker(split, workers);
  try {
    yield* ahead(numbers, workers === 0 ? 1 : depth, number => {
      const indices = Int32Array.from(order.slice(number * batchSize, (number + 1) * batchSize));
      return maker.make({ indices, size: shape, augment, seed, epoch });
    });
  } finally {
    maker.close();
  }
}
