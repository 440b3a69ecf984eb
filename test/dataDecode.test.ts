import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { decode } from '../lib/data/cache/decode';

/**
 * Files of a few hundred bytes, and sha256 of what Pillow 13.0.0 makes of each:
 * `ImageOps.exif_transpose(Image.open(file)).convert('RGB').resize(size, Image.BILINEAR).tobytes()`, where torchvision's `Resize(24)` gives the size.
 */
const PILLOW: Record<string, [size: [number, number], sha256: string]> = {
  'photo.jpg': [[36, 24], '200aa7c02a524e9905b9f2ca95e78d7e7ec953783720a1adf37ee77a0cd910b3'],
  'progressive.jpg': [[36, 24], 'df85c6a329da38c734203514e4e38fe4f3d3ec383019e318a3d19620761f9f2d'],
  'turned.jpg': [[24, 36], '7e4e0307dc7581cb2a41310561b8efe1c0cdb9b347a8421920aacb6123103e3e'],
  'cmyk.jpg': [[36, 24], 'a3c3aef75b0ea8a6447e2926e5fad7aa2f57e525e9867cab7e57a58a32877e78'],
  'glass.png': [[27, 24], '0cfea26773181167f853d99d14a1ff6445fb9e93bca0e0580e8019c80381b725'],
};

test.each(Object.entries(PILLOW))('as Pillow, %s is equal to the byte', async (name, [size, sha256]) => {
  const { width, height, pixels } = await decode(readFileSync(join(__dirname, 'fixtures/pillow', name)), 24, 'pillow');
  expect([width, height]).toEqual(size);
  expect(createHash('sha256').update(pixels).digest('hex')).toBe(sha256);
});

test('as Pillow, a colour profile changes nothing; otherwise it does', async () => {
  const red = sharp({ create: { width: 8, height: 8, channels: 3, background: { r: 200, g: 60, b: 20 } } });
  const wide = await red.withIccProfile('p3').png().toBuffer();
  const stored = await sharp(wide, { ignoreIcc: true }).raw().toBuffer();
  expect(stored[0]).not.toBe(200); // the profile's red needs less of it
  expect([...(await decode(wide, 24, 'pillow')).pixels.subarray(0, 3)]).toEqual([...stored.subarray(0, 3)]);
  (await decode(wide, 24)).pixels
    .subarray(0, 3)
    .forEach((value, c) => expect(Math.abs(value - [200, 60, 20][c])).toBeLessThanOrEqual(2));
});
