import { closeSync, existsSync, fsyncSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ahead } from '../../util/ahead';
import { writeFileAtomic } from '../../util/files';
import { processors } from '../../util/processors';
import type { Split } from '../dataset';
import { makeFolder } from './cacheFolder';
import { decode } from './decode';

/** An image that has yet to be decoded. */
export interface RawPicture {
  name: string;
  split: string;
  label: number;
  bytes: Uint8Array;
}

/** The decoded images of a dataset: per split one file of uint8 pixels in the cache. */
export interface Shards {
  splits: Record<string, Split>;
  /** What could not be decoded. */
  skipped: { name: string; reason: string }[];
}

/** `index.json` beside the shards: their images in the order of their pixels. */
interface Index {
  splits: Record<string, [name: string, label: number, width: number, height: number][]>;
  skipped: Shards['skipped'];
}

const shardFile = (folder: string, split: string): string => join(folder, `${split}.u8`);

/** The shards in a folder of the cache; undefined where there are none, or one hasn't its full size. */
export function openShards(folder: string, numClasses: number): Shards | undefined {
  const indexFile = join(folder, 'index.json');
  if (!existsSync(indexFile)) return undefined;
  const index = JSON.parse(readFileSync(indexFile, 'utf8')) as Index;
  const splits: Record<string, Split> = {};
  for (const [name, rows] of Object.entries(index.splits)) {
    const pixels = shardFile(folder, name);
    const bytes = rows.reduce((sum, [, , width, height]) => sum + width * height * 3, 0);
    if (statSync(pixels, { throwIfNoEntry: false })?.size !== bytes) return undefined;
    splits[name] = {
      length: rows.length,
      numClasses,
      names: rows.map(row => row[0]),
      labels: Int32Array.from(rows, row => row[1]),
      widths: Int32Array.from(rows, row => row[2]),
      heights: Int32Array.from(rows, row => row[3]),
      pixels,
    };
  }
  return { splits, skipped: index.skipped };
}

export interface BuildOptions {
  splits: readonly string[];
  numClasses: number;
  /** Shorter side, in pixels, at which images are kept. */
  side: number;
  /** Hears how many images are done. */
  progress(done: number): void;
}

/**
 * Decodes images, in parallel, into shards in the order in which they come. Those that can't be decoded are left out and
 * listed. The folder appears when it is whole.
 */
export async function buildShards(
  folder: string,
  pictures: Iterable<RawPicture> | AsyncIterable<RawPicture>,
  options: BuildOptions,
): Promise<Shards> {
  const { splits, numClasses, side, progress } = options;
  await makeFolder(
    folder,
    () => openShards(folder, numClasses) !== undefined,
    async scratch => {
      const index: Index = { splits: Object.fromEntries(splits.map(split => [split, []])), skipped: [] };
      const files = new Map(splits.map(split => [split, openSync(shardFile(scratch, split), 'w')]));
      try {
        const decoded = ahead(pictures, 2 * processors(), async ({ bytes, ...picture }) => ({
          ...picture,
          result: await decode(bytes, side).catch((error: Error) => error),
        }));
        let done = 0;
        for await (const { name, split, label, result } of decoded) {
          if (result instanceof Error) {
            index.skipped.push({ name, reason: result.message.trim().split('\n')[0] });
          } else {
            writeFully(files.get(split)!, result.pixels);
            index.splits[split].push([name, label, result.width, result.height]);
          }
          progress(++done);
        }
        for (const file of files.values()) fsyncSync(file);
      } finally {
        for (const file of files.values()) closeSync(file);
      }
      writeFileAtomic(join(scratch, 'index.json'), JSON.stringify(index));
    },
  );
  return openShards(folder, numClasses)!;
}

function writeFully(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
}
