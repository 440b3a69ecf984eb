import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CacheOptions } from '../lib/data/cache/cache';
import { type Dataset, readPicture } from '../lib/data/dataset';
import { openDataset } from '../lib/data/open';
import { UserError } from '../lib/util/errors';
import { thisPlace } from '../lib/util/processes';
import { type Colour, noisy, plain } from './imageFolders';

let root: string;
let cacheDir: string;
let lines: string[];

beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-folder-'));
  root = join(folder, 'pictures');
  cacheDir = join(folder, 'cache');
  lines = [];
});
afterEach(() => rmSync(join(root, '..'), { recursive: true, force: true }));

const RED: Colour = [200, 30, 20],
  BLUE: Colour = [20, 40, 210];
const open = (options: CacheOptions = {}): Promise<Dataset> =>
  openDataset(`folder:${root}`, { cacheDir, report: line => lines.push(line), ...options });

/** Writes a file, with its folders. */
function put(path: string, bytes: Uint8Array): void {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), bytes);
}

/** Two classes with two PNGs in each split. */
async function makeFolder(splits = ['train', 'test']): Promise<void> {
  for (const split of splits) {
    for (const [name, colour] of [
      ['red', RED],
      ['blue', BLUE],
    ] as const) {
      for (const i of [1, 2]) put(`${split}/${name}/${i}.png`, await plain(colour).png().toBuffer());
    }
  }
}

/** The middle pixel of the image of that name. */
function middle(data: Dataset, name: string): number[] {
  const { width, height, pixels } = readPicture(data.train, data.train.names.indexOf(name));
  const at = (Math.floor(height / 2) * width + Math.floor(width / 2)) * 3;
  return Array.from(pixels.subarray(at, at + 3));
}

describe('a folder', () => {
  test('gives classes in the order of their names, and every image with its own label', async () => {
    await makeFolder();
    put('train/.DS_Store', Buffer.from('x'));
    put('train/red/notes.txt', Buffer.from('not an image'));
    const data = await open();
    expect(data.classes).toEqual(['blue', 'red']);
    expect([data.train.length, data.test.length, data.val, data.skipped]).toEqual([4, 4, undefined, []]);
    expect(Array.from(data.train.labels)).toEqual([0, 0, 1, 1]);
    expect(data.train.names).toEqual(['train/blue/1.png', 'train/blue/2.png', 'train/red/1.png', 'train/red/2.png']);
    expect(middle(data, 'train/red/1.png')).toEqual(RED);
    expect(middle(data, 'train/blue/2.png')).toEqual(BLUE);
  });

  test('with val alone tests on that; with both keeps both', async () => {
    await makeFolder(['train', 'val']);
    expect((await open()).test.names[0]).toBe('val/blue/1.png');
    await makeFolder(['test']);
    const both = await open();
    expect([both.test.names[0], both.val?.names[0]]).toEqual(['test/blue/1.png', 'val/blue/1.png']);
  });

  test('decodes JPEG, PNG and WebP; greyscale, CMYK, 16 bits and transparency; and turns images upright', async () => {
    await makeFolder();
    put('train/red/jpeg.JPG', await plain(RED, 32, 32).jpeg({ quality: 95 }).toBuffer());
    put('train/red/webp.webp', await plain(RED, 32, 32).webp({ lossless: true }).toBuffer());
    put('train/red/grey.png', await plain([90, 90, 90]).greyscale().png().toBuffer());
    put('train/red/cmyk.jpg', await plain(RED, 32, 32).toColourspace('cmyk').jpeg({ quality: 95 }).toBuffer());
    put('train/red/deep.png', await plain(RED).toColourspace('rgb16').png().toBuffer());
    put(
      'train/red/glass.png',
      await sharp({ create: { width: 12, height: 8, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0.5 } } })
        .png()
        .toBuffer(),
    );
    // Left half red, right half blue; EXIF says that it is to be turned by 90° clockwise: red comes to the top.
    const halves = await sharp({
      create: { width: 40, height: 20, channels: 3, background: { r: RED[0], g: RED[1], b: RED[2] } },
    })
      .composite([{ input: await plain(BLUE, 20, 20).png().toBuffer(), left: 20, top: 0 }])
      .jpeg({ quality: 95 })
      .withMetadata({ orientation: 6 })
      .toBuffer();
    put('train/red/turned.jpg', halves);

    const data = await open();
    expect(data.skipped).toEqual([]);
    const close = (name: string, colour: Colour, tolerance: number) =>
      middle(data, `train/red/${name}`).forEach((value, c) =>
        expect(Math.abs(value - colour[c]), name).toBeLessThanOrEqual(tolerance),
      );
    close('jpeg.JPG', RED, 3);
    close('webp.webp', RED, 0);
    close('grey.png', [90, 90, 90], 0);
    close('cmyk.jpg', RED, 45); // the gamut of a press is smaller
    close('deep.png', RED, 1);
    close('glass.png', [127, 127, 127], 1); // on white
    const turned = readPicture(data.train, data.train.names.indexOf('train/red/turned.jpg'));
    expect([turned.width, turned.height]).toEqual([20, 40]);
    expect(Math.abs(turned.pixels[(5 * 20 + 10) * 3] - RED[0])).toBeLessThan(6);
    expect(Math.abs(turned.pixels[(35 * 20 + 10) * 3 + 2] - BLUE[2])).toBeLessThan(6);
  });

  test('shrinks large images to the asked side, keeps their aspect and never enlarges', async () => {
    await makeFolder();
    put('train/red/large.png', await plain(RED, 300, 200).png().toBuffer());
    const { train } = await open({ side: 50 });
    const large = train.names.indexOf('train/red/large.png');
    expect([train.widths[large], train.heights[large]]).toEqual([75, 50]);
    expect([train.widths[0], train.heights[0]]).toEqual([12, 8]);
  });
});

describe('a corrupt image', () => {
  beforeEach(async () => {
    await makeFolder();
    const whole = await noisy();
    put('train/red/cut.jpg', whole.subarray(0, whole.length / 2));
    put('train/red/empty.png', Buffer.alloc(0));
    put('test/blue/text.webp', Buffer.from('hello'));
  });

  test('is named and skipped with a count, from the cache as well', async () => {
    for (const round of ['decoded', 'cached']) {
      lines = [];
      const data = await open();
      expect([data.train.length, data.test.length], round).toEqual([4, 4]);
      expect(data.skipped.map(({ name }) => name)).toEqual([
        'train/red/cut.jpg',
        'train/red/empty.png',
        'test/blue/text.webp',
      ]);
      for (const { name } of data.skipped) expect(lines.some(line => line.includes(name))).toBe(true);
      expect(lines.at(-1)).toContain('3');
    }
  });

  test('stops a strict run, which names it', async () => {
    await expect(open({ strict: true })).rejects.toThrow(UserError);
    await expect(open({ strict: true })).rejects.toThrow('train/red/cut.jpg');
  });

  test('that was the last of its class is warned of, and the last of a split stops any run', async () => {
    for (const i of [1, 2]) put(`test/blue/${i}.png`, Buffer.from('broken'));
    await open();
    expect(lines.some(line => /'test'.*'blue'/.test(line))).toBe(true);
    for (const i of [1, 2]) put(`test/red/${i}.png`, Buffer.from('broken'));
    await expect(open()).rejects.toThrow(/No image in 'test'/);
  });
});

describe('the cache', () => {
  const cached = () => readdirSync(cacheDir);

  test('is used again, and made anew where images, their classes or options change', async () => {
    await makeFolder();
    const first = await open();
    expect((await open()).fingerprint).toBe(first.fingerprint);
    expect(cached().length).toBe(1);
    expect((await open({ side: 4 })).fingerprint).not.toBe(first.fingerprint);
    put('train/red/1.png', await plain(BLUE).png().toBuffer());
    const changed = await open();
    expect(changed.fingerprint).not.toBe(first.fingerprint);
    expect(middle(changed, 'train/red/1.png')).toEqual(BLUE);
    cpSync(join(root, 'train/red'), join(root, 'train/zinnia'), { recursive: true });
    cpSync(join(root, 'test/red'), join(root, 'test/zinnia'), { recursive: true });
    expect((await open()).fingerprint).not.toBe(changed.fingerprint);
    expect(cached().length).toBe(4);
  });

  test('is the same wherever the folder lies', async () => {
    await makeFolder();
    const { fingerprint } = await open();
    const elsewhere = join(root, '../moved');
    cpSync(root, elsewhere, { recursive: true });
    expect((await openDataset(`folder:${elsewhere}`, { cacheDir, report: () => {} })).fingerprint).toBe(fingerprint);
  });

  test('is repaired where a shard is damaged, and swept of what a killed process left', async () => {
    await makeFolder();
    await open();
    const folder = join(cacheDir, cached()[0]);
    const before = readFileSync(join(folder, 'train.u8'));
    truncateSync(join(folder, 'train.u8'), 100);
    mkdirSync(join(cacheDir, `.scratch-${Object.values(thisPlace()).join('-')}-999999999-0`));
    await open();
    expect(readFileSync(join(folder, 'train.u8'))).toEqual(before);
    expect(cached().length).toBe(1);
  });

  test('can be made by several at once', async () => {
    await makeFolder();
    const all = await Promise.all([open(), open(), open()]);
    for (const data of all) expect(middle(data, 'train/red/1.png')).toEqual(RED);
    expect(cached().length).toBe(1);
  });

  test('that cannot be written is told in one sentence', async () => {
    await makeFolder();
    writeFileSync(cacheDir, 'a file');
    await expect(open()).rejects.toThrow(UserError);
    await expect(open()).rejects.toThrow('--cache-dir');
  });
});

describe('what cannot be trained on is refused:', () => {
  test.each<[string, () => void | Promise<void>, RegExp]>([
    ['no such folder', () => {}, /doesn't exist/],
    ['a file', () => writeFileSync(root, 'x'), /is a file/],
    ['no train', async () => makeFolder(['test']), /'train'/],
    ['neither test nor val', async () => makeFolder(['train']), /'test' nor 'val'/],
    [
      'no classes',
      async () => {
        await makeFolder(['test']);
        mkdirSync(join(root, 'train'));
      },
      /train has no classes/,
    ],
    [
      'images beside the classes',
      async () => {
        await makeFolder(['test']);
        put('train/1.png', Buffer.from(''));
      },
      /train has no classes/,
    ],
    [
      'one class',
      async () => {
        await makeFolder();
        rmSync(join(root, 'train/red'), { recursive: true });
        rmSync(join(root, 'test/red'), { recursive: true });
      },
      /single class 'blue'/,
    ],
    [
      'a class unknown to train',
      async () => {
        await makeFolder();
        put('test/green/1.png', Buffer.from(''));
      },
      /'green'.*nothing could learn it/,
    ],
  ])('%s', async (_, make, says) => {
    await make();
    await expect(open()).rejects.toThrow(UserError);
    await expect(open()).rejects.toThrow(says);
    expect(existsSync(cacheDir)).toBe(false);
  });
});
