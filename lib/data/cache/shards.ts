import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ahead } from '../../util/ahead';
import { budget } from '../../util/budget';
import { Failure, UserError } from '../../util/errors';
import { writeFileAtomic } from '../../util/files';
import type { Copies, Named, Split } from '../dataset';
import { makeFolder } from './cacheFolder';
import { copyCounter } from './copies';
import type { Decoded } from './decode';

/** An image that has yet to be read and decoded. */
export interface SourceImage {
  /** What reports call it: its path in the folder or archive that it comes from. */
  name: string;
  /** What its digest calls it (default: its name). */
  key?: string;
  split: string;
  label: number;
  /** Bytes of its file, for what they take in memory (default: they are there already). */
  size?: number;
  /** Its file's bytes. Rejects with an `UnreadableError` where they can't be had, and the image is to be left out. */
  read(): Promise<Uint8Array>;
}

/** A file that can't be read, so that its image is left out; the message is the reason. */
export class UnreadableError extends Error {
  override name = 'UnreadableError';
}

/** The decoded images of a dataset: per split one file of uint8 pixels in the cache. */
export interface Shards {
  splits: Record<string, Split>;
  /** Files whose bytes could not be decoded. */
  skipped: Named[];
  /** Files that could not be read. */
  unreadable: Named[];
  /** Files that were decoded although the decoder found fault with them. */
  warned: Named[];
  copies: Copies;
  /** Digest of the names and bytes of all files that could be read. */
  contents: string;
}

type Row = [name: string, label: number, width: number, height: number];

/** `index.json` beside the shards: their images in the order of their pixels. `sums` has each shard's sha256, and `sha256` that of all the rest. */
interface Index extends Omit<Shards, 'splits'> {
  format: number;
  splits: Record<string, Row[]>;
  sums: Record<string, string>;
}

/** 1, until version 0.1.0, had no sums. */
const FORMAT = 2;
const INDEX = 'index.json';
/** Of the names and sizes of the files that a cache was made of: it tells a folder that is probably cached before its files are read. */
const LISTING = 'listing.txt';
/** What the file system said of the shards when their sums were last computed. */
const CHECKED = 'checked.json';

const shardFile = (folder: string, split: string): string => join(folder, `${split}.u8`);
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** The index of a folder of the cache; undefined where there is none, or not the one that was written. */
function readIndex(folder: string): Index | undefined {
  try {
    const { sha256: sum, ...index } = JSON.parse(readFileSync(join(folder, INDEX), 'utf8')) as Index & {
      sha256: string;
    };
    return index.format === FORMAT && sum === sha256(JSON.stringify(index)) ? index : undefined;
  } catch {
    return undefined; // gone, unreadable or no JSON: it is written anew
  }
}

/** Changes with a file's content, and without it at times: then sums are computed once more than needed. */
function stamp(file: string): string {
  const { size, mtimeNs, ctimeNs, ino } = statSync(file, { bigint: true });
  return [size, mtimeNs, ctimeNs, ino].join(' ');
}

async function sumOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

function readChecked(folder: string): Record<string, string> {
  try {
    return JSON.parse(readFileSync(join(folder, CHECKED), 'utf8')) as Record<string, string>;
  } catch {
    return {};
  }
}

/** Whether all shards hold the bytes that were written. They are read only where the file system says that they may have changed. */
async function areWhole(folder: string, { sums }: Index): Promise<boolean> {
  const checked = readChecked(folder);
  const stamps: Record<string, string> = {};
  try {
    for (const [split, sum] of Object.entries(sums)) {
      const file = shardFile(folder, split);
      stamps[split] = stamp(file);
      if (stamps[split] !== checked[split] && (await sumOf(file)) !== sum) return false;
    }
  } catch {
    return false;
  }
  if (JSON.stringify(stamps) !== JSON.stringify(checked)) {
    try {
      writeFileAtomic(join(folder, CHECKED), JSON.stringify(stamps));
    } catch {
      // a cache that may only be read is checked each time
    }
  }
  return true;
}

/** The shards in a folder of the cache; undefined where there are none, or their files are not those that were written. */
export async function openShards(folder: string, numClasses: number): Promise<Shards | undefined> {
  const index = readIndex(folder);
  if (!index || !(await areWhole(folder, index))) return undefined;
  const splits: Record<string, Split> = {};
  for (const [name, rows] of Object.entries(index.splits)) {
    splits[name] = {
      length: rows.length,
      numClasses,
      names: rows.map(row => row[0]),
      labels: Int32Array.from(rows, row => row[1]),
      widths: Int32Array.from(rows, row => row[2]),
      heights: Int32Array.from(rows, row => row[3]),
      pixels: shardFile(folder, name),
    };
  }
  const { skipped, unreadable, warned, copies, contents } = index;
  return { splits, skipped, unreadable, warned, copies, contents };
}

/** Whether the cache holds a folder that was made of files of these names and sizes. */
export function isListed(cache: string, listing: string): boolean {
  try {
    return readdirSync(cache).some(name => {
      try {
        return readFileSync(join(cache, name, LISTING), 'utf8') === listing;
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}

/** Digest of names and bytes, in the order of the images. */
export function contentsHash(): { add(image: SourceImage, bytes: Uint8Array): void; digest(): string } {
  const hash = createHash('sha256');
  return {
    add: ({ name, key = name }, bytes) => void hash.update(`${key}\0${bytes.length}\0`).update(bytes),
    digest: () => hash.digest('hex'),
  };
}

const DEPTH = 2 * availableParallelism();

/** What files that are read at the same time may take together, in bytes. */
const READING = 512e6;

/** Reads images ahead of their use, and does `work` with each. The bytes count as memory in use until the caller asks for the next image. */
async function* readAhead<R>(
  images: Iterable<SourceImage> | AsyncIterable<SourceImage>,
  work: (bytes: Uint8Array) => Promise<R>,
): AsyncGenerator<{ image: SourceImage; unreadable?: string; bytes?: Uint8Array; result?: R }> {
  const reading = budget(READING);
  const read = async (image: SourceImage) => {
    const release = await reading.take(image.size ?? 0);
    try {
      const bytes = await image.read();
      return { release, image, bytes, result: await work(bytes) };
    } catch (error) {
      if (error instanceof UnreadableError) return { release, image, unreadable: error.message };
      throw error;
    }
  };
  for await (const { release, ...done } of ahead(images, DEPTH, read)) {
    yield done;
    release();
  }
}

/** The digest of images that are read, and not decoded. */
export async function digestContents(images: Iterable<SourceImage>): Promise<string> {
  const contents = contentsHash();
  for await (const { image, bytes } of readAhead(images, async () => undefined)) if (bytes) contents.add(image, bytes);
  return contents.digest();
}

export interface BuildOptions {
  cache: string;
  splits: readonly string[];
  numClasses: number;
  decode(bytes: Uint8Array): Promise<Decoded>;
  /** Digest of names and sizes, where the source has one. */
  listing?: string;
  /** The folder's name in the cache, by the digest of what was read. */
  nameOf(contents: string): string;
  /** Hears of each image that was read, in order. */
  read?(image: SourceImage, bytes: Uint8Array): void;
  /** Hears how many images are done. */
  progress(done: number): void;
}

/**
 * Decodes images, in parallel, into shards in the order in which they come. Each file is read once: what is decoded is what the digest
 * stands for. Files that can't be read or decoded are left out and listed. The folder appears when it is whole.
 */
export async function buildShards(
  images: Iterable<SourceImage> | AsyncIterable<SourceImage>,
  { cache, splits, numClasses, decode, listing, nameOf, read, progress }: BuildOptions,
): Promise<Shards> {
  const folder = await makeFolder(
    cache,
    async scratch => {
      const contents = contentsHash();
      const { copies, add } = copyCounter();
      const rows: Index['splits'] = Object.fromEntries(splits.map(split => [split, []]));
      const skipped: Named[] = [],
        unreadable: Named[] = [],
        warned: Named[] = [];
      const files = new Map(
        splits.map(split => [split, { hash: createHash('sha256'), handle: openSync(shardFile(scratch, split), 'w') }]),
      );
      try {
        const decoded = readAhead(images, bytes =>
          decode(bytes).catch((error: Error) => {
            if (error instanceof Failure || error instanceof UserError) throw error;
            return error;
          }),
        );
        let done = 0;
        for await (const { image, bytes, result, unreadable: reason } of decoded) {
          const { name, split, label } = image;
          if (bytes) {
            contents.add(image, bytes);
            read?.(image, bytes);
          }
          if (result instanceof Error) {
            skipped.push({ name, reason: result.message.trim().split('\n')[0] });
          } else if (result && bytes) {
            const { hash, handle } = files.get(split)!;
            writeFully(handle, result.pixels);
            hash.update(result.pixels);
            rows[split].push([name, label, result.width, result.height]);
            if (result.warning !== undefined) warned.push({ name, reason: result.warning });
            add(createHash('sha256').update(bytes).digest('base64'), image);
          } else {
            unreadable.push({ name, reason: reason! });
          }
          progress(++done);
        }
        for (const { handle } of files.values()) fsyncSync(handle);
      } finally {
        for (const { handle } of files.values()) closeSync(handle);
      }
      const sums = Object.fromEntries([...files].map(([split, { hash }]) => [split, hash.digest('hex')]));
      const index: Index = {
        format: FORMAT,
        contents: contents.digest(),
        splits: rows,
        sums,
        skipped,
        unreadable,
        warned,
        copies,
      };
      writeFileAtomic(join(scratch, INDEX), JSON.stringify({ ...index, sha256: sha256(JSON.stringify(index)) }));
      // Moving the folder leaves these stamps as they are: what was just written isn't read again.
      const stamps = Object.fromEntries(splits.map(split => [split, stamp(shardFile(scratch, split))]));
      writeFileSync(join(scratch, CHECKED), JSON.stringify(stamps));
      if (listing !== undefined) writeFileSync(join(scratch, LISTING), listing);
      return nameOf(index.contents);
    },
    async there => (await openShards(there, numClasses)) !== undefined,
  );
  return (await openShards(folder, numClasses))!;
}

function writeFully(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
}
