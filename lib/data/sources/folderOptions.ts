import { z } from 'zod';
import { positiveInteger } from '../../util/options';

const FRACTION = 'expected a number above 0 and below 1';

export const folderOptions = z.strictObject({
  /** Fraction of each class that is held back for testing, where the folder holds none back. */
  split: z.coerce.number(FRACTION).gt(0, FRACTION).lt(1, FRACTION).optional(),
  /** Of that split, and of `limit`. */
  seed: z.string().default('0'),
  /** Table of images and their labels. */
  labels: z.string().min(1).optional(),
  /** Images of each split at most, spread over the classes. */
  limit: positiveInteger.optional(),
});

export type FolderOptions = z.output<typeof folderOptions>;
