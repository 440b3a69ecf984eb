import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type BatchOptions, batches, batchesPerEpoch } from '../lib/data/batches';
import { readPicture, type Split } from '../lib/data/dataset';
import { openDataset } from '../lib/data/open';
import { petals } from '../lib/data/sources/petals';
import { Failure, UserError } from '../lib/util/errors';

const { train: split, test: held } = petals({ classes: 6, train: 5, test: 2, size: 40 });
const everything: BatchOptions = {
  batchSize: 8,
  size: [24, 32],
  augment: {
    randomCrop: [0.3, 1],
    flip: 0.5,
    jitter: { brightness: 0.3, contrast: 0.3, saturation: 0.3, hue: 0.1 },
    erase: 0.5,
    mixup: 0.2,
    cutmix: 1,
  },
  seed: 7,
  shuffle: true,
};

/** Each image of an epoch as it reached the network: index → digest of its pixels and targets. */
async function pictures(from: Split, options: BatchOptions): Promise<Map<number, string>> {
  const seen = new Map<number, string>();
  for await (const batch of batches(from, options)) {
    const pixels = batch.images.length / batch.count,
      classes = batch.targets.length / batch.count;
    batch.indices.forEach((index, i) =>
      seen.set(
        index,
        createHash('sha256')
          .update(batch.images.slice(i * pixels, (i + 1) * pixels))
          .update(batch.targets.slice(i * classes, (i + 1) * classes))
          .digest('hex'),
      ),
    );
  }
  return seen;
}

describe('an epoch', () => {
  test('has every image once, with its label, the last batch as large as it comes out', async () => {
    const indices: number[] = [],
      counts: number[] = [];
    for await (const batch of batches(split, everything)) {
      counts.push(batch.count);
      indices.push(...batch.indices);
      expect(batch.images.length).toBe(batch.count * 24 * 32 * 3);
      expect(Array.from(batch.labels)).toEqual(Array.from(batch.indices, index => split.labels[index]));
      for (let i = 0; i < batch.count; i++)
        expect(batch.targets.slice(i * 6, i * 6 + 6).reduce((a, b) => a + b)).toBeCloseTo(1, 6);
    }
    expect(counts).toEqual([8, 8, 8, 6]);
    expect([...indices].sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i));
    expect(indices).not.toEqual([...indices].sort((a, b) => a - b));
    expect(batchesPerEpoch(split, everything)).toBe(4);
    expect(batchesPerEpoch(split, { ...everything, dropLast: true })).toBe(3);
  });

  test('unshuffled and unmixed it comes in order, one-hot', async () => {
    for await (const batch of batches(held, { batchSize: 100, size: 16 })) {
      expect(Array.from(batch.indices)).toEqual(Array.from({ length: 12 }, (_, i) => i));
      batch.labels.forEach((label, i) => expect(batch.targets[i * 6 + label]).toBe(1));
      expect(batch.targets.reduce((a, b) => a + b)).toBe(12);
    }
  });

  test('from a batch on, it is the rest of the same epoch', async () => {
    const whole: string[] = [],
      rest: string[] = [];
    const digest = (data: Float32Array) => createHash('sha256').update(data).digest('hex');
    for await (const { images } of batches(split, everything)) whole.push(digest(images));
    for await (const { images } of batches(split, { ...everything, from: 2 })) rest.push(digest(images));
    expect(rest).toEqual(whole.slice(2));
  });
});

describe('what becomes of an image', () => {
  test('depends on seed, epoch and image, not on workers, batch size or order', async () => {
    const reference = await pictures(split, everything);
    for (const other of [{ workers: 0 }, { workers: 3 }, { batchSize: 5, depth: 1 }, { shuffle: false }]) {
      const seen = await pictures(split, { ...everything, ...other });
      expect([...seen].sort()).toEqual([...reference].sort());
    }
    for (const other of [{ seed: 8 }, { epoch: 1 }]) {
      const seen = await pictures(split, { ...everything, ...other });
      for (const [index, digest] of seen) expect(digest).not.toBe(reference.get(index));
    }
  });

  test('epochs come in different orders', async () => {
    const orders = await Promise.all(
      [0, 1].map(async epoch => [...(await pictures(split, { ...everything, epoch })).keys()]),
    );
    expect(orders[0]).not.toEqual(orders[1]);
  });
});

describe('the threads', () => {
  test('are there for the next loop after one was left early', async () => {
    for await (const batch of batches(split, everything)) {
      expect(batch.count).toBe(8);
      break;
    }
    expect((await pictures(split, everything)).size).toBe(30);
  });

  test.each([0, 1])('pass on what goes wrong (%i workers)', async workers => {
    const gone = { ...split, pixels: join(tmpdir(), 'edgevit-no-such-shard.u8') };
    await expect(pictures(gone, { ...everything, workers })).rejects.toThrow(Failure);
    expect((await pictures(split, { ...everything, workers })).size).toBe(30);
  });

  test('report a shard that has become too short', async () => {
    const shard = join(tmpdir(), `edgevit-short-${process.pid}.u8`);
    onTestFinished(() => rmSync(shard, { force: true }));
    writeFileSync(shard, new Uint8Array(split.pixels as SharedArrayBuffer).subarray(0, 100_000));
    await expect(pictures({ ...split, pixels: shard }, { ...everything, augment: {} })).rejects.toThrow(shard);
  });
});

describe('synthetic flowers', () => {
  const pixelsOf = (of: Split) => new Uint8Array(of.pixels as SharedArrayBuffer);

  test('are the same on every machine', () => {
    expect(petals({ classes: 6, train: 5, test: 2, size: 40 }).fingerprint).toBe(
      '8d1e82d78420bdd788ac6f0fce6d43d8f3af6e4dbb2a6fbee7ba842a3b3d06d9',
    );
  });

  test('an image depends on the seed and its own name alone', () => {
    const more = petals({ classes: 6, train: 9, test: 3, size: 40 });
    expect(more.train.names.indexOf(split.names[17])).toBeGreaterThanOrEqual(0);
    for (const [i, name] of split.names.entries())
      expect(readPicture(more.train, more.train.names.indexOf(name))).toEqual(readPicture(split, i));
    expect(pixelsOf(petals({ classes: 6, train: 5, test: 2, size: 40, seed: 1 }).train)).not.toEqual(pixelsOf(split));
    expect(pixelsOf(split).subarray(0, 2 * 40 * 40 * 3)).not.toEqual(pixelsOf(held).subarray(0, 2 * 40 * 40 * 3));
  });

  test.each([2, 5, 12, 40, 48])('of %i classes: no colour belongs to one class alone', classes => {
    const names = petals({ classes, train: 1, test: 1, size: 16 }).classes.map(name => name.split(/-(.*)/));
    expect(new Set(names.map(String)).size).toBe(classes);
    for (const [colour] of names) expect(names.filter(([other]) => other === colour).length).toBeGreaterThanOrEqual(2);
  });

  test('the mean colour of an image does not give its class away', () => {
    const data = petals({ train: 30, test: 10, size: 48 });
    const mean = (of: Split, i: number) => {
      const { pixels } = readPicture(of, i);
      return [0, 1, 2].map(
        c => pixels.filter((_, at) => at % 3 === c).reduce((a, b) => a + b, 0) / (pixels.length / 3),
      );
    };
    const known = Array.from(data.train.labels, (label, i) => ({ label, colour: mean(data.train, i) }));
    const distance = (a: number[], b: number[]) => Math.hypot(...a.map((v, c) => v - b[c]));
    const right = Array.from(data.test.labels).filter((label, i) => {
      const colour = mean(data.test, i);
      return (
        known.reduce((best, other) => (distance(other.colour, colour) < distance(best.colour, colour) ? other : best))
          .label === label
      );
    }).length;
    expect(right / data.test.length).toBeLessThan(0.45); // 1/12 by chance; who knew the colour of the flower itself would reach 1/3, here ± 0.04
  });

  test.each([
    ['petals:classes=1', 'classes'],
    ['petals:size=big', 'size'],
    ['petals:petal=5', 'petal'],
    ['petals:train=10000,size=512', 'GB'],
    ['petals:classes', 'key=value'],
    ['flowers', 'flowers102'],
    ['folder:', 'PATH'],
    ['flowers102:split=half', 'paddle'],
  ])('refuses %s', async (spec, says) => {
    await expect(openDataset(spec)).rejects.toThrow(UserError);
    await expect(openDataset(spec)).rejects.toThrow(says);
  });

  test('takes its options from the specification', async () => {
    const data = await openDataset('petals:classes=3,train=4,test=2,size=20,noise=0.1');
    expect([data.classes.length, data.train.length, data.test.length, data.train.widths[0]]).toEqual([3, 12, 6, 20]);
  });
});
