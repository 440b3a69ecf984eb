import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach } from 'vitest';
import type { CacheOptions } from '../lib/data/cache/cache';
import type { Dataset } from '../lib/data/dataset';
import { openDataset } from '../lib/data/open';

export type Colour = readonly [red: number, green: number, blue: number];

/** An image of one colour. */
export const plain = (colour: Colour, width = 12, height = 8) =>
  sharp({ create: { width, height, channels: 3, background: { r: colour[0], g: colour[1], b: colour[2] } } });

/** A JPEG of noise, 64 × 64, in which damage shows. */
export const noisy = (): Promise<Buffer> =>
  sharp({
    create: {
      width: 64,
      height: 64,
      channels: 3,
      noise: { type: 'gaussian', mean: 120, sigma: 60 },
      background: 'black',
    },
  })
    .jpeg()
    .toBuffer();

export interface Scratch {
  /** The folder of images; it isn't there until something is put into it. */
  root: string;
  cacheDir: string;
  /** What was reported. */
  lines: string[];
  /** Writes a file, with its folders. */
  put(path: string, bytes: Uint8Array | string): void;
  /** Writes small PNGs, each of a colour of its own. */
  images(...paths: string[]): Promise<void>;
  /** Opens the folder, by `folder:ROOT:pairs`. */
  open(options?: CacheOptions, pairs?: string): Promise<Dataset>;
}

/** A new folder for each test of a file, removed after it. */
export function scratch(): Scratch {
  let made = 0;
  const self: Scratch = {
    root: '',
    cacheDir: '',
    lines: [],
    put(path, bytes) {
      mkdirSync(join(self.root, path, '..'), { recursive: true });
      writeFileSync(join(self.root, path), bytes);
    },
    async images(...paths) {
      for (const path of paths) {
        made++;
        self.put(
          path,
          await plain([made & 255, made >> 8, 100])
            .png()
            .toBuffer(),
        );
      }
    },
    open: (options = {}, pairs = '') =>
      openDataset(`folder:${self.root}${pairs === '' ? '' : `:${pairs}`}`, {
        cacheDir: self.cacheDir,
        report: line => self.lines.push(line),
        ...options,
      }),
  };
  beforeEach(() => {
    const folder = mkdtempSync(join(tmpdir(), 'edgevit-folder-'));
    self.root = join(folder, 'pictures');
    self.cacheDir = join(folder, 'cache');
    self.lines = [];
  });
  afterEach(() => rmSync(join(self.root, '..'), { recursive: true, force: true }));
  return self;
}
