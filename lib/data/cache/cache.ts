import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import { UserError } from '../../util/errors';
import { ROOT } from '../../util/root';
import { decoder } from './decode';
import { buildShards, openShards, type RawPicture, type Shards } from './shards';

/** The project's folder of downloads and caches. */
export const DATASETS = join(ROOT, 'datasets');

export interface CacheOptions {
  /** Where decoded images are kept (default: datasets/cache). */
  cacheDir?: string;
  /** Shorter side, in pixels, at which images are kept; smaller ones stay as they are (default 256). */
  side?: number;
  /** Stop at an image that can't be decoded, instead of leaving it out. */
  strict?: boolean;
  /** Hears, in lines, what is skipped and what takes time (default: stderr). */
  report?: (line: string) => void;
}

export interface ShardSource {
  /** Of the dataset: it begins the folder's name. */
  name: string;
  /** Digest of all names and bytes. */
  contents: string;
  splits: readonly string[];
  numClasses: number;
  /** Begins to read the images, where the cache doesn't have them. */
  open(): Promise<{ total: number; pictures: AsyncIterable<RawPicture> }>;
  options: CacheOptions;
}

/** The decoded images of a dataset, from the cache or decoded now. */
export async function loadShards({
  name,
  contents,
  splits,
  numClasses,
  open,
  options,
}: ShardSource): Promise<{ shards: Shards; fingerprint: string }> {
  const {
    cacheDir = join(DATASETS, 'cache'),
    side = 256,
    strict = false,
    report = line => console.error(line),
  } = options;
  const fingerprint = createHash('sha256')
    .update(JSON.stringify({ contents, side, decoder: decoder() }))
    .digest('hex');
  const folder = resolve(cacheDir, `${name}-${fingerprint.slice(0, 16)}`);
  let shards = openShards(folder, numClasses);
  if (!shards) {
    const { total, pictures } = await open();
    const progress = (done: number): void => {
      if (done === total || done % 1000 === 0) report(`decoded ${done} of ${total} images`);
    };
    shards = await buildShards(folder, pictures, { splits, numClasses, side, progress });
  }
  const { skipped } = shards;
  if (strict && skipped.length > 0)
    throw new UserError(
      `${describe(skipped[0])} can't be decoded, and --strict skips none (of ${skipped.length} such images).`,
    );
  for (const picture of skipped) report(`skipped ${describe(picture)}`);
  if (skipped.length > 0) report(`skipped ${skipped.length} images that can't be decoded`);
  return { shards, fingerprint };
}

const describe = ({ name, reason }: Shards['skipped'][number]): string => `${name} (${reason})`;

/** Throws a UserError where a class has lost all its images of a split, because none could be decoded. */
export function checkClasses({ splits }: Shards, classes: readonly string[]): void {
  for (const [name, split] of Object.entries(splits)) {
    const present = new Set(split.labels);
    const lost = classes.findIndex((_, label) => !present.has(label));
    if (lost >= 0) throw new UserError(`The class '${classes[lost]}' has no image in '${name}' that can be decoded.`);
  }
}
