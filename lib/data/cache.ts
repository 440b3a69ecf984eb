import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { UserError } from '../errors';
import { decoder } from './decode';
import { buildShards, openShards, type RawPicture, type Shards } from './shards';

/** The project's folder of downloads and caches. */
export const DATASETS = join(__dirname, '../../datasets');

export interface CacheOptions {
  /** Where decoded pictures are kept (default: datasets/cache). */
  cacheDir?: string;
  /** Shorter side, in pixels, at which pictures are kept; smaller ones stay as they are (default 256). */
  side?: number;
  /** Stop at a picture that can't be decoded, instead of leaving it out. */
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
  /** How many pictures there are. */
  total: number;
  /** Begins to read them. */
  pictures(): AsyncIterable<RawPicture>;
  options: CacheOptions;
}

/** Opens the decoded pictures of a dataset, decoding them where the cache doesn't have them. */
export async function loadShards({ name, contents, pictures, total, options, ...source }: ShardSource): Promise<{ shards: Shards; fingerprint: string }> {
  const { cacheDir = join(DATASETS, 'cache'), side = 256, strict = false, report = line => console.error(line) } = options;
  const fingerprint = createHash('sha256').update(JSON.stringify({ contents, side, decoder: decoder() })).digest('hex');
  const folder = join(cacheDir, `${name}-${fingerprint.slice(0, 16)}`);
  let shards = openShards(folder, source.numClasses);
  if (!shards) {
    let reported = 0;
    shards = await buildShards(folder, pictures(), {
      ...source,
      side,
      progress(done) {
        if (done < total && done - reported < 1000) return;
        reported = done;
        report(`Decoded ${done} of ${total} pictures.`);
      },
    });
  }
  const { skipped } = shards;
  if (skipped.length > 0 && strict) throw new UserError(`${skipped.length} of ${total} pictures can't be decoded, and --strict doesn't skip any: ${describe(skipped[0])}.`);
  for (const picture of skipped) report(`Skipped ${describe(picture)}`);
  if (skipped.length > 0) report(`Skipped ${skipped.length} of ${total} pictures.`);
  return { shards, fingerprint };
}

const describe = ({ name, reason }: Shards['skipped'][number]): string => `${name} (${reason})`;

/** Throws a UserError where a class has lost all its pictures of a split, because none could be decoded. */
export function checkClasses({ splits }: Shards, classes: readonly string[]): void {
  for (const [name, split] of Object.entries(splits)) {
    const present = new Set(split.labels);
    const lost = classes.findIndex((_, label) => !present.has(label));
    if (lost >= 0) throw new UserError(`The class '${classes[lost]}' has no picture in '${name}' that can be decoded.`);
  }
}
