import { closeSync, openSync, readSync } from 'node:fs';
import { Failure } from '../util/errors';

/** An image as it is stored: 8-bit RGB, [height, width, 3]. */
export interface Picture {
  width: number;
  height: number;
  pixels: Uint8Array;
}

/**
 * Labelled images, stored one after another. Plain data, so that a worker thread can be sent one:
 * the pixels themselves stay where they are, in a file of the cache or in shared memory.
 */
export interface Split {
  readonly length: number;
  readonly numClasses: number;
  /** Class of each image, an index into the dataset's `classes`. */
  readonly labels: Int32Array;
  /** What each image is called in reports: its path in the folder or archive that it came from. */
  readonly names: readonly string[];
  readonly widths: Int32Array;
  readonly heights: Int32Array;
  readonly pixels: string | SharedArrayBuffer;
}

export interface Dataset {
  name: string;
  classes: readonly string[];
  train: Split;
  test: Split;
  /** The official validation images, where a dataset has them beside its test images. */
  val?: Split;
  /** One line for people: how many images, and where they come from. */
  description: string;
  /** sha256 over the images and all options that shaped them: equal fingerprints give equal batches. */
  fingerprint: string;
  /** Images that could not be read or decoded and were left out. */
  skipped: readonly Named[];
  /** What else was found while reading it; undefined for data that is made and not read. */
  findings?: Findings;
}

/** Something about one file. */
export interface Named {
  name: string;
  reason: string;
}

/** Files whose bytes equal those of an earlier one. */
export interface Copies {
  /** How many are in another split than the earlier one: what is tested was learned. */
  acrossSplits: number;
  /** How many have another class than the earlier one. */
  acrossClasses: number;
  /** How many have its split and its class. */
  withinClass: number;
  /** The first pairs across splits or classes. */
  examples: [name: string, name: string][];
}

/** What reading a dataset came upon, beside its images. */
export interface Findings {
  /** Images that were decoded although the decoder found fault with their files. */
  warned: readonly Named[];
  /** How many files and folders were passed over, by reason. */
  ignored: Readonly<Record<string, number>>;
  copies: Copies;
}

/** Reads images of one split until it is closed. The pixels of an image are valid until the next `read`. */
export interface PictureReader {
  read(index: number): Picture;
  close(): void;
}

/** Opens a split's pixels. Throws where its file in the cache is gone or shorter than it was. */
export function pictureReader(split: Split): PictureReader {
  const { widths, heights, pixels } = split;
  const offsets = new Float64Array(split.length + 1); // beyond 4 GB an integer array overflows
  for (let i = 0; i < split.length; i++) offsets[i + 1] = offsets[i] + widths[i] * heights[i] * 3;
  const picture = (i: number, bytes: Uint8Array): Picture => ({ width: widths[i], height: heights[i], pixels: bytes });

  if (typeof pixels !== 'string') {
    return { read: i => picture(i, new Uint8Array(pixels, offsets[i], offsets[i + 1] - offsets[i])), close() {} };
  }
  const gone = (what: string): Failure =>
    new Failure(`${pixels} ${what}: it was deleted or altered while in use; start again, and the cache is made anew.`);
  let file: number;
  try {
    file = openSync(pixels, 'r');
  } catch (error) {
    throw gone(`cannot be opened (${(error as NodeJS.ErrnoException).code})`);
  }
  let buffer = new Uint8Array(0);
  return {
    read(i) {
      const size = offsets[i + 1] - offsets[i];
      if (buffer.length < size) buffer = new Uint8Array(size);
      for (let at = 0; at < size; ) {
        const count = readSync(file, buffer, at, size - at, offsets[i] + at);
        if (count === 0) throw gone(`ends before image ${i}`);
        at += count;
      }
      return picture(i, buffer.subarray(0, size));
    },
    close: () => closeSync(file),
  };
}

/** One stored image, copied: for reports and notebooks, which need few. */
export function readPicture(split: Split, index: number): Picture {
  const reader = pictureReader(split);
  try {
    const picture = reader.read(index);
    return { ...picture, pixels: picture.pixels.slice() };
  } finally {
    reader.close();
  }
}
