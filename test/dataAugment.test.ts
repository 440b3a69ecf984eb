import { describe, expect, test } from 'vitest';
import type { Picture } from '../lib/data/dataset';
import { augmentPicture, centerCropBox, randomCropBox, type Size } from '../lib/data/transforms/augment';
import { type AugmentationOptions, parseAugmentation } from '../lib/data/transforms/augmentation';
import { adjustBrightness, adjustContrast, adjustHue, adjustSaturation } from '../lib/data/transforms/jitter';
import { applyMix, drawMix } from '../lib/data/transforms/mix';
import { type Interpolation, resizeBox } from '../lib/data/transforms/resize';
import { UserError } from '../lib/util/errors';
import { random } from '../lib/util/random';
import pillow from './fixtures/pillow.json';

/** The image that fixtures/pillow.py draws. */
const picture: Picture = {
  width: pillow.width,
  height: pillow.height,
  pixels: Uint8Array.from(
    { length: pillow.width * pillow.height * 3 },
    (_, i) => Math.floor(i / 40) + (Math.imul(i, 2654435761) >>> 25),
  ),
};
const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'));
const box = ([x, y, width, height]: number[]) => ({ x, y, width, height });

function augmented(options: AugmentationOptions, seed = 0, size: Size = [24, 32]): Float32Array {
  const out = new Float32Array(size[0] * size[1] * 3);
  augmentPicture(picture, out, size, parseAugmentation(options), name => random(seed).fork(name));
  return out;
}

describe('as torchvision on Pillow images', () => {
  test.each(pillow.resized)(
    'crop $box resized to $size, $interpolation',
    ({ box: at, size, interpolation, pixels }) => {
      expect(resizeBox(picture, box(at), size as [number, number], interpolation as Interpolation)).toEqual(
        bytes(pixels),
      );
    },
  );

  const changes = {
    brightness: adjustBrightness,
    contrast: adjustContrast,
    saturation: adjustSaturation,
    hue: adjustHue,
  };
  test.each(pillow.adjusted)('$change by $factor', ({ change, factor, pixels }) => {
    const [, , width, height] = pillow.small;
    const small = resizeBox(picture, box(pillow.small), [height, width]); // same size: an exact copy
    changes[change as keyof typeof changes](small, factor);
    expect(small).toEqual(bytes(pixels));
  });
});

describe('crops', () => {
  test('random ones lie inside, keep the asked fraction of the area and ratio, and reach every edge', () => {
    const boxes = Array.from({ length: 2000 }, (_, i) => randomCropBox(picture, [0.2, 0.6], [3 / 4, 4 / 3], random(i)));
    for (const { x, y, width, height } of boxes) {
      expect(Math.min(x, y, picture.width - x - width, picture.height - y - height)).toBeGreaterThanOrEqual(0);
      const share = (width * height) / (picture.width * picture.height);
      expect(share).toBeGreaterThan(0.19); // sides are rounded to whole pixels
      expect(share).toBeLessThan(0.62);
      expect(width / height).toBeGreaterThan(0.72);
      expect(width / height).toBeLessThan(1.38);
    }
    expect(boxes.some(b => b.x === 0)).toBe(true);
    expect(boxes.some(b => b.x + b.width === picture.width)).toBe(true);
    expect(boxes.some(b => b.y + b.height === picture.height)).toBe(true);
  });

  test('an image too long for the ratio falls back to the largest centred box of an allowed one', () => {
    const long = { width: 400, height: 10, pixels: new Uint8Array() };
    expect(randomCropBox(long, [1, 1], [3 / 4, 4 / 3], random(0))).toEqual({ x: 193, y: 0, width: 13, height: 10 });
  });

  test('a centred crop has the aspect of the network', () => {
    expect(centerCropBox(picture, 1, [20, 20])).toEqual({ x: 7, y: 0, width: 47, height: 47 });
    expect(centerCropBox(picture, 0.5, [20, 40])).toEqual({ x: 15, y: 16, width: 31, height: 15 });
  });
});

describe('augmentations', () => {
  test('by default an image is resized and normalised', () => {
    const pixels = resizeBox(picture, box([0, 0, pillow.width, pillow.height]), [24, 32]);
    const out = augmented({ mean: [0.5, 0.25, 0], std: [0.5, 1, 2] });
    for (const i of [0, 1, 2, 1000, 2303]) {
      const c = i % 3;
      expect(out[i]).toBeCloseTo((pixels[i] / 255 - [0.5, 0.25, 0][c]) / [0.5, 1, 2][c], 6);
    }
  });

  test('a flip mirrors rows', () => {
    const plain = augmented({}),
      flipped = augmented({ flip: 1 });
    for (let y = 0; y < 24; y++) {
      for (let x = 0; x < 32; x++)
        expect(flipped.subarray((y * 32 + x) * 3, (y * 32 + x + 1) * 3)).toEqual(
          plain.subarray((y * 32 + 31 - x) * 3, (y * 32 + 32 - x) * 3),
        );
    }
  });

  test('erasing sets one rectangle to the mean colour', () => {
    const plain = augmented({}),
      erased = augmented({ erase: 1 });
    const changed = Array.from(plain, (_, i) => i).filter(i => plain[i] !== erased[i]);
    expect(changed.every(i => erased[i] === 0)).toBe(true);
    const columns = changed.map(i => Math.floor(i / 3) % 32),
      rows = changed.map(i => Math.floor(i / 96));
    const area = (Math.max(...columns) - Math.min(...columns) + 1) * (Math.max(...rows) - Math.min(...rows) + 1);
    expect(changed.length / 3).toBe(area);
    expect(area / (24 * 32)).toBeGreaterThan(0.01);
    expect(area / (24 * 32)).toBeLessThan(0.4);
  });

  test('switching one on leaves the others as they were', () => {
    const crop: AugmentationOptions = { randomCrop: [0.3, 0.9] };
    for (let seed = 0; seed < 5; seed++) {
      const erased = augmented({ ...crop, erase: 1 }, seed),
        plain = augmented(crop, seed);
      expect(erased.every((value, i) => value === 0 || value === plain[i])).toBe(true);
    }
  });

  test('jitter of strength s is the same as brightness, contrast and saturation of s', () => {
    expect(parseAugmentation({ jitter: 0.3 }).jitter).toEqual({
      brightness: 0.3,
      contrast: 0.3,
      saturation: 0.3,
      hue: 0,
    });
    expect(augmented({ jitter: 0.3 })).not.toEqual(augmented({}));
  });

  test('what was parsed parses to itself: run.json can hold it', () => {
    const once = parseAugmentation({ randomCrop: [0.4, 1], jitter: 0.3, flip: 0.5, mixup: 0.2 });
    expect(parseAugmentation(JSON.parse(JSON.stringify(once)))).toEqual(once);
  });

  test.each([
    { flip: 2 },
    { randomCrop: [0.9, 0.2] },
    { jitter: -1 },
    { std: [1, 0, 1] },
    { flop: 1 },
    { interpolation: 'lanczos' },
  ])('refuses %o', options => {
    expect(() => parseAugmentation(options as AugmentationOptions)).toThrow(UserError);
    expect(() => parseAugmentation(options as AugmentationOptions)).toThrow(Object.keys(options)[0]);
  });
});

describe('mixing', () => {
  const size: Size = [24, 32];
  const draws = (options: AugmentationOptions) =>
    Array.from({ length: 3000 }, (_, i) => drawMix(parseAugmentation(options), 50, size, random(i)));

  test('mixup blends by a fraction from Beta(α, α)', () => {
    const shares = draws({ mixup: 0.2 }).map(mix => mix.keep);
    const mean = shares.reduce((a, b) => a + b) / shares.length;
    const variance = shares.reduce((a, b) => a + (b - mean) ** 2, 0) / shares.length;
    expect(mean).toBeCloseTo(0.5, 1); // standard error 0.008
    expect(variance).toBeCloseTo(1 / (4 * (2 * 0.2 + 1)), 1); // of Beta(α, α)
    const out = Float32Array.of(1, 2, 3);
    applyMix(out, Float32Array.of(5, 6, 7), { partner: 0, keep: 0.75 }, 1);
    expect(Array.from(out)).toEqual([2, 3, 4]);
  });

  test('cutmix keeps as much of the label as of the image', () => {
    const pixels = size[0] * size[1] * 3;
    for (const mix of draws({ cutmix: 1 }).slice(0, 200)) {
      const out = new Float32Array(pixels);
      applyMix(out, new Float32Array(pixels).fill(1), mix, size[1]);
      expect(1 - out.reduce((a, b) => a + b) / pixels).toBeCloseTo(mix.keep, 6);
    }
  });

  test('with both, each is used about half the time, and every image can be a partner', () => {
    const mixes = draws({ mixup: 1, cutmix: 1 });
    expect(mixes.filter(mix => mix.box).length / mixes.length).toBeCloseTo(0.5, 1);
    expect(new Set(mixes.map(mix => mix.partner)).size).toBe(50);
  });
});
