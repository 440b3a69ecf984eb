import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import sharp, { type Metadata } from 'sharp';
import { beforeEach, describe, expect, test } from 'vitest';
import { describeSplit } from '../lib/cli/data';
import { loadShards } from '../lib/data/cache/cache';
import { decodingBytes } from '../lib/data/cache/decode';
import { withSide } from '../lib/data/cache/side';
import { type Dataset, readPicture } from '../lib/data/dataset';
import { nearDuplicates } from '../lib/data/duplicates';
import { petals } from '../lib/data/sources/petals';
import { budget } from '../lib/util/budget';
import { UserError } from '../lib/util/errors';
import { noisy, plain, scratch } from './imageFolders';

const folder = scratch();
beforeEach(() => folder.images('train/a/1.png', 'train/b/1.png', 'test/a/2.png', 'test/b/2.png'));

const names = (list: readonly { name: string }[]) => list.map(({ name }) => name).sort();
const said = (pattern: RegExp) => folder.lines.some(line => pattern.test(line));

describe('images are found', () => {
  test('in folders within classes, and by what they are instead of what they are called', async () => {
    const image = () => plain([90, 20, 150], 9, 9);
    await folder.images('train/a/persian/kitten/3.png');
    folder.put('train/a/x.jfif', await image().jpeg().toBuffer());
    folder.put('train/a/x.gif', await image().gif().toBuffer());
    folder.put('train/a/x.tiff', await image().tiff().toBuffer());
    folder.put('train/a/x.avif', await image().avif().toBuffer());
    folder.put('train/a/without', await image().webp().toBuffer());
    folder.put('train/a/x.jpg', await image().png().toBuffer());
    folder.put('train/a/notes.txt', 'nothing');
    folder.put('train/a/LICENSE', 'nothing');
    const { train, skipped, findings } = await folder.open();
    expect(skipped).toEqual([]);
    expect(train.names.filter(name => name.startsWith('train/a')).map(name => name.slice(8))).toEqual([
      '1.png',
      'persian/kitten/3.png',
      'without',
      'x.avif',
      'x.gif',
      'x.jfif',
      'x.jpg',
      'x.tiff',
    ]);
    expect(findings!.ignored).toEqual({ 'no images (.txt)': 1, 'no images (no extension)': 1 });
  });

  test('and said to be more than a cached copy of before holds', async () => {
    await folder.open(); // a copy of what version 0.1.0 would have found as well
    await folder.images('train/a/deeper/3.png');
    await folder.open();
    expect(said(/^5 images are read now, where a copy in the cache holds 4/)).toBe(true);
    folder.lines.length = 0;
    await folder.open();
    expect(said(/are read now/)).toBe(false);
  });

  test('of documented kinds alone: others are named and counted', async () => {
    const box = (brand: string) =>
      Buffer.concat([Buffer.from([0, 0, 0, 20]), Buffer.from(`ftyp${brand}\0\0\0\0mif1`), Buffer.alloc(40)]);
    folder.put('train/a/phone.jpg', box('heic'));
    folder.put('train/a/phone.HEIC', box('heic'));
    folder.put('train/a/unnamed', box('heix'));
    folder.put(
      'train/b/drawing.png',
      '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    );
    folder.put('train/b/page.jpg', '<!DOCTYPE html><html></html>');
    folder.put('train/b/raw.nef', await plain([1, 2, 3]).tiff().toBuffer());
    const { skipped, train } = await folder.open();
    expect(train.length).toBe(2);
    expect(skipped.length).toBe(6);
    const reason = (name: string) => skipped.find(each => each.name.endsWith(name))!.reason;
    for (const name of ['phone.jpg', 'phone.HEIC', 'unnamed']) expect(reason(name)).toContain('HEIC');
    expect(reason('drawing.png')).toContain('SVG');
    expect(reason('page.jpg')).toContain('HTML');
    expect(reason('raw.nef')).toContain('raw');
    await expect(folder.open({ strict: true })).rejects.toThrow(/HEIC.*5 more/);
  });

  test('where a pipe, a dead link, a loop or a name in another encoding lies among them', async () => {
    const classes = join(folder.root, 'train/a');
    execFileSync('mkfifo', [join(classes, 'pipe.jpg')]);
    symlinkSync('gone.png', join(classes, 'dead.png'));
    symlinkSync('loop.png', join(classes, 'loop.png'));
    symlinkSync('looped', join(classes, 'looped'));
    renameSync(
      join(classes, '1.png'),
      Buffer.concat([Buffer.from(`${classes}/caf`), Buffer.from([0xe9]), Buffer.from('.png')]),
    );
    await folder.images('train/a/good.png');
    const { train, skipped } = await folder.open();
    expect(train.names).toEqual(['train/a/good.png', 'train/b/1.png']);
    expect(names(skipped).map(name => name.slice(8))).toEqual([
      'caf\ufffd.png',
      'dead.png',
      'loop.png',
      'looped',
      'pipe.jpg',
    ]);
    expect(folder.lines.at(-1)).toContain('5');
    await expect(folder.open({ strict: true })).rejects.toThrow(UserError);
  });
});

describe('a file with an odd byte', () => {
  let whole: Buffer;
  beforeEach(async () => {
    whole = await noisy();
  });

  test('that viewers open is decoded, and counted; --strict refuses it', async () => {
    folder.put('train/a/whole.jpg', whole);
    const clean = await folder.open();
    const tables = whole.indexOf(Buffer.from([0xff, 0xdb]));
    folder.put(
      'train/a/whole.jpg',
      Buffer.concat([whole.subarray(0, tables), Buffer.from('junk!'), whole.subarray(tables)]),
    );
    for (const _ of ['decoded', 'cached']) {
      folder.lines.length = 0;
      const { train, findings, skipped } = await folder.open();
      expect([names(findings!.warned), skipped, train.length]).toEqual([['train/a/whole.jpg'], [], 3]);
      const index = train.names.indexOf('train/a/whole.jpg');
      expect(readPicture(train, index).pixels).toEqual(readPicture(clean.train, index).pixels);
      expect(said(/1 image decoded with a warning/)).toBe(true);
    }
    await expect(folder.open({ strict: true })).rejects.toThrow('train/a/whole.jpg');
  });

  test('that is cut off is left out, and the fingerprint says so', async () => {
    folder.put('train/a/cut.jpg', whole.subarray(0, whole.length / 2));
    const { skipped, fingerprint, train } = await folder.open();
    expect([names(skipped), train.length]).toEqual([['train/a/cut.jpg'], 2]);
    expect((await folder.open()).fingerprint).toBe(fingerprint);
  });
});

describe('copies', () => {
  const copy = (from: string, to: string) => folder.put(to, readFileSync(join(folder.root, from)));

  test('of training images among those of the test, or under two classes, are warned of, and refused by --strict', async () => {
    copy('train/a/1.png', 'test/a/leak.png');
    copy('train/a/1.png', 'train/b/other.png');
    copy('train/b/1.png', 'train/b/again.png');
    for (const _ of ['decoded', 'cached']) {
      folder.lines.length = 0;
      const { findings } = await folder.open();
      expect(findings!.copies).toEqual({
        acrossSplits: 1,
        acrossClasses: 1,
        withinClass: 1,
        examples: [
          ['train/a/1.png', 'train/b/other.png'],
          ['train/a/1.png', 'test/a/leak.png'],
        ],
      });
      expect(
        said(/warning: 1 file in another split and 1 file in another class.*train\/a\/1\.png = test\/a\/leak\.png/),
      ).toBe(true);
    }
    await expect(folder.open({ strict: true })).rejects.toThrow(/leak\.png/);
  });

  test('within a class alone are no leak', async () => {
    copy('train/b/1.png', 'train/b/again.png');
    expect((await folder.open({ strict: true })).findings!.copies.withinClass).toBe(1);
  });

  test('that look the same are found after compression and resizing', async () => {
    const { train } = petals({ classes: 3, train: 4, test: 1, size: 64 });
    for (let i = 0; i < train.length; i++) {
      const { width, height, pixels } = readPicture(train, i);
      const image = sharp(Buffer.from(pixels), { raw: { width, height, channels: 3 } });
      folder.put(`train/a/p${i}.png`, await image.clone().png().toBuffer());
      if (i === 2) folder.put('test/b/small.jpg', await image.clone().resize(40).jpeg({ quality: 60 }).toBuffer());
    }
    const pairs = nearDuplicates(await folder.open()); // the images of one colour are not each other's
    expect(pairs).toHaveLength(1);
    expect(pairs[0]).toMatchObject({
      a: 'train/a/p2.png',
      b: 'test/b/small.jpg',
      acrossSplits: true,
      acrossClasses: true,
    });
  });
});

describe('the cache holds what the fingerprint stands for:', () => {
  const cached = () => {
    const [name] = readdirSync(folder.cacheDir);
    return (file: string) => join(folder.cacheDir, name, file);
  };
  const zero = (file: string) => {
    const handle = openSync(file, 'r+');
    writeSync(handle, new Uint8Array(32), 0, 32, 16);
    closeSync(handle);
  };

  test.each<[string, (file: (name: string) => string) => void]>([
    ['zeros in a shard', file => zero(file('train.u8'))],
    [
      'zeros in a shard, and its old time',
      file => {
        zero(file('test.u8'));
        utimesSync(file('test.u8'), 1e9, 1e9);
      },
    ],
    ['an index that is no JSON', file => writeFileSync(file('index.json'), '{"splits":')],
    ['an empty index', file => writeFileSync(file('index.json'), '')],
    ['an index without splits', file => writeFileSync(file('index.json'), '{}')],
    [
      'another label',
      file =>
        writeFileSync(
          file('index.json'),
          readFileSync(file('index.json'), 'utf8').replace('train/b/1.png",1', 'train/b/1.png",0'),
        ),
    ],
  ])('%s', async (_, damage) => {
    const pixels = ({ train, test: tested }: Dataset) =>
      [train, tested].flatMap(split =>
        split.names.map((name, i) => [name, split.labels[i], [...readPicture(split, i).pixels]]),
      );
    const before = await folder.open();
    const content = pixels(before);
    damage(cached());
    const after = await folder.open();
    expect(pixels(after)).toEqual(content);
    expect(after.fingerprint).toBe(before.fingerprint);
  });

  test('each file is read once, and what was read is what is decoded', async () => {
    const [red, blue] = [await plain([200, 0, 0]).png().toBuffer(), await plain([0, 0, 200]).png().toBuffer()];
    let reads = 0;
    const image = (label: number, bytes: () => Buffer) => ({
      name: `x/${label}`,
      split: 'x',
      label,
      read: async () => bytes(),
    });
    const load = (first: () => Buffer) =>
      loadShards({
        name: 'odd',
        splits: ['x'],
        numClasses: 2,
        images: [image(0, first), image(1, () => blue)],
        options: { cacheDir: folder.cacheDir, report() {} },
      });
    // A file that changes whenever it is looked at.
    const { shards } = await load(() => (reads++ === 0 ? red : blue));
    expect(reads).toBe(1);
    expect(readPicture(shards.splits.x, 0).pixels[0]).toBe(200);
    const digest = createHash('sha256');
    for (const [name, bytes] of [
      ['x/0', red],
      ['x/1', blue],
    ] as const)
      digest.update(`${name}\0${bytes.length}\0`).update(bytes);
    expect(shards.contents).toBe(digest.digest('hex'));
  });
});

describe('memory', () => {
  test('is shared out first come, first served, and a task above the whole comes alone', async () => {
    const memory = budget(10);
    const order: string[] = [];
    const task = async (name: string, amount: number) => {
      const release = await memory.take(amount);
      order.push(`+${name}`);
      return () => {
        order.push(`-${name}`);
        release();
      };
    };
    const first = task('a', 6),
      large = task('large', 50),
      small = task('small', 1);
    (await first)();
    (await large)();
    (await small)();
    expect(order).toEqual(['+a', '-a', '+large', '-large', '+small', '-small']);
  });

  test('counts an image by what its decoder keeps of it', () => {
    const png = { format: 'png', width: 16000, height: 16000, channels: 3, depth: 'uchar' } as const;
    expect(decodingBytes({ ...png, isProgressive: true } as Metadata, 256)).toBeGreaterThan(16000 ** 2 * 3);
    expect(decodingBytes({ ...png, isProgressive: false } as Metadata, 256)).toBeLessThan(50e6);
  });

  test('is not asked for by an image of more pixels than any', async () => {
    // Of a PNG of 20,000×20,000, the header alone.
    const head = Buffer.from(await plain([1, 2, 3]).png().toBuffer());
    head.writeUInt32BE(20_000, 16);
    head.writeUInt32BE(20_000, 20);
    head.writeInt32BE(crc(head.subarray(12, 29)), 29);
    folder.put('train/a/bomb.png', head);
    const { skipped } = await folder.open();
    expect(skipped[0]?.reason).toMatch(/400 million pixels/);
  });
});

/** CRC-32 of PNG's chunks. */
function crc(bytes: Uint8Array): number {
  let value = -1;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return ~value;
}

describe('the side of the copies', () => {
  test('grows with the size that the network sees, and is not below it', () => {
    expect(withSide({}, 224)).toEqual({});
    expect(withSide({}, 256)).toEqual({});
    expect(withSide({}, 384)).toEqual({ side: 439 });
    expect(withSide({}, [64, 448])).toEqual({ side: 512 });
    expect(withSide({ side: 384 }, 384)).toEqual({ side: 384 });
    expect(() => withSide({ side: 256 }, 384)).toThrow(/--side=256.*--size=384/);
  });

  test('is said', async () => expect((await folder.open({ side: 100 })).description).toContain('100 px'));
});

test('a split of more images than a call takes arguments is summed up', () => {
  const length = 200_000;
  const sides = new Int32Array(length).fill(32);
  sides[7] = 20;
  const split = {
    length,
    numClasses: 2,
    labels: Int32Array.from(sides, (_, i) => i % 2),
    names: [],
    widths: sides,
    heights: sides,
    pixels: '',
  };
  expect(describeSplit('train', split, 24)).toEqual({
    split: 'train',
    images: length,
    perClass: [length / 2, length / 2],
    sides: [20, 32],
    enlarged: 1,
  });
});
