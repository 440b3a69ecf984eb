import { createHash } from 'node:crypto';
import { z } from 'zod';
import { UserError } from '../../util/errors';
import { parseOptions } from '../../util/options';
import { type Random, random } from '../../util/random';
import type { Dataset, Split } from '../dataset';
import type { Source } from '../source';
import { drawFlower, type Form } from './flower';

/** Ordered so that neighbours are easy to tell apart: few classes make an easy data set, many a hard one. */
const FORMS: readonly Form[] = [
  { petals: 5, shape: 'round' },
  { petals: 8, shape: 'pointed' },
  { petals: 4, shape: 'notched' },
  { petals: 13, shape: 'narrow' },
  { petals: 3, shape: 'round' },
  { petals: 6, shape: 'pointed' },
  { petals: 8, shape: 'narrow' },
  { petals: 5, shape: 'notched' },
  { petals: 8, shape: 'round' },
  { petals: 5, shape: 'pointed' },
  { petals: 6, shape: 'notched' },
  { petals: 4, shape: 'round' },
];

/** Hue in degrees and saturation around which a species varies. */
const COLOURS = {
  yellow: { hue: 50, saturation: 0.85 },
  pink: { hue: 335, saturation: 0.6 },
  violet: { hue: 270, saturation: 0.65 },
  white: { hue: 60, saturation: 0.08 },
};

type ColourName = keyof typeof COLOURS;

const whole = (low: number, high: number) => z.coerce.number().int().min(low).max(high);

const schema = z.strictObject({
  classes: whole(2, FORMS.length * Object.keys(COLOURS).length).default(12),
  /** Images per class. */
  train: whole(1, 10_000).default(80),
  test: whole(1, 10_000).default(20),
  /** Side of an image in pixels. */
  size: whole(16, 512).default(128),
  /** Standard deviation of the noise, in units of full scale. */
  noise: z.coerce.number().min(0).max(1).default(0.04),
  seed: z.coerce.string().default('0'),
});

/** All images are held in memory. */
const MAX_BYTES = 2e9;

export type PetalsOptions = z.input<typeof schema>;

/** The first `classes` species. Each colour is shared by at least two of them, so that none gives a class away. */
function species(classes: number): { name: string; form: Form; colour: ColourName }[] {
  const names = Object.keys(COLOURS) as ColourName[];
  const colours = names.slice(0, Math.max(1, Math.min(names.length, Math.floor(classes / 3))));
  return Array.from({ length: classes }, (_, i) => {
    const colour = colours[i % colours.length],
      form = FORMS[Math.floor(i / colours.length)];
    return { name: `${colour}-${form.petals}-${form.shape}`, form, colour };
  });
}

function drawSplit(
  name: string,
  perClass: number,
  kinds: ReturnType<typeof species>,
  size: number,
  noise: number,
  rng: Random,
): Split {
  const length = perClass * kinds.length;
  const bytes = size * size * 3;
  const pixels = new SharedArrayBuffer(length * bytes);
  const labels = Int32Array.from({ length }, (_, i) => i % kinds.length);
  const names = Array.from(labels, (label, i) => `${name}/${kinds[label].name}/${Math.floor(i / kinds.length)}`);
  names.forEach((path, i) => {
    const { form, colour } = kinds[labels[i]];
    drawFlower(
      new Uint8ClampedArray(pixels, i * bytes, bytes),
      size,
      { form, ...COLOURS[colour], noise },
      rng.fork(path),
    );
  });
  const sides = new Int32Array(length).fill(size);
  return { length, numClasses: kinds.length, labels, names, widths: sides, heights: sides, pixels };
}

/**
 * Synthetic flowers, so that everything runs without a download: species differ by the number and the shape of their petals, while
 * each colour is shared by several; pose, light, background and noise are random. They show that a network learns, and prove
 * nothing about flowers. An image depends on the seed and its own name alone. Throws UserError for options that it lacks.
 */
export function petals(options: PetalsOptions = {}): Dataset {
  const { classes, train, test, size, noise, seed } = parseOptions(schema, options, 'petals');
  const bytes = classes * (train + test) * size ** 2 * 3;
  if (bytes > MAX_BYTES) {
    throw new UserError(
      `petals of ${classes} × (${train} + ${test}) images, ${size}×${size} pixels, would fill ${(bytes / 1e9).toFixed(1)} GB of memory: ${MAX_BYTES / 1e9} are allowed.`,
    );
  }
  const kinds = species(classes);
  const rng = random(seed).fork('petals');
  const draw = (name: string, perClass: number) => drawSplit(name, perClass, kinds, size, noise, rng);
  const splits = { train: draw('train', train), test: draw('test', test) };
  const hash = createHash('sha256').update(JSON.stringify(kinds));
  for (const split of [splits.train, splits.test])
    hash.update(`${split.length}`).update(new Uint8Array(split.pixels as SharedArrayBuffer));
  return {
    name: 'petals',
    classes: kinds.map(kind => kind.name),
    ...splits,
    description: `${train * classes} + ${test * classes} synthetic flowers of ${classes} species, ${size}×${size} pixels, noise ${noise}, seed ${seed}`,
    fingerprint: hash.digest('hex'),
    skipped: [],
  };
}

export const PETALS: Source = {
  spec: 'petals[:key=value,…]',
  isSynthetic: true,
  open: pairs => petals(pairs),
};
