import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { batches } from '../../data/batches';
import { decode } from '../../data/cache/decode';
import { DECODINGS } from '../../data/decodings';
import { petals } from '../../data/sources/petals';
import type { AugmentationOptions } from '../../data/transforms/augmentation';
import { atan2, cos, exp, log, sin } from '../../util/elementary';
import { random } from '../../util/random';
import { ROOT } from '../../util/root';
import { type Check, type Parts, shortDigest } from './parts';

/** The functions that data, noise, schedules and metrics are made of. */
const FUNCTIONS: Record<string, (a: number, b: number) => number> = { exp, log, sin, cos, atan2 };

function elementaryParts(): Parts {
  const parts: Parts = {};
  for (const [name, fn] of Object.entries(FUNCTIONS)) {
    const rng = random(`golden ${name}`);
    const values = Float64Array.from({ length: 20_000 }, () => fn(12 * rng.uniform(), 8 * rng.uniform() - 2));
    parts[name] = shortDigest(new Uint8Array(values.buffer));
  }
  return parts;
}

const PHOTOS = ['photo.jpg', 'progressive.jpg', 'turned.jpg', 'cmyk.jpg', 'glass.png'];

/** Decoded and shrunk, both ways. */
async function imageParts(): Promise<Parts> {
  const parts: Parts = {};
  for (const name of PHOTOS)
    for (const decoding of DECODINGS)
      for (const side of [32, 17]) {
        const bytes = readFileSync(join(ROOT, 'test/fixtures/pillow', name));
        const { width, height, pixels } = await decode(bytes, side, decoding);
        parts[`${name} as ${decoding}, ${width}×${height}`] = shortDigest(pixels);
      }
  return parts;
}

const AUGMENTATIONS: Record<string, AugmentationOptions> = {
  resized: {},
  'centre crop, bicubic': { centerCrop: 0.8, interpolation: 'bicubic' },
  'random crop, flip': { randomCrop: [0.2, 1], flip: 0.5 },
  'random crop, bicubic': { randomCrop: [0.2, 1], interpolation: 'bicubic' },
  jitter: { jitter: { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.3 } },
  erasing: { erase: 1 },
  mixup: { mixup: 0.8 },
  cutmix: { cutmix: 1 },
};

/** Synthetic flowers, and batches of them by each augmentation. */
async function dataParts(): Promise<Parts> {
  const dataset = petals({ classes: 4, train: 4, test: 1, size: 48 });
  const parts: Parts = { flowers: dataset.fingerprint };
  for (const [name, augment] of Object.entries(AUGMENTATIONS)) {
    const options = { batchSize: 16, size: [32, 40], augment, seed: 1, shuffle: true, workers: 0 } as const;
    for await (const { images, targets } of batches(dataset.train, options)) {
      parts[`${name}: images`] = shortDigest(new Uint8Array(images.buffer));
      parts[`${name}: targets`] = shortDigest(new Uint8Array(targets.buffer));
    }
  }
  return parts;
}

/** What is computed beside TensorFlow. */
export function hostChecks(): Check[] {
  return [
    { name: 'host functions', run: async () => elementaryParts() },
    { name: 'host images', run: imageParts },
    { name: 'host data', run: dataParts },
  ];
}
