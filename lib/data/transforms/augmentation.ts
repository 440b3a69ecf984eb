import { z } from 'zod';
import { parseOptions } from '../../util/options';

const probability = z.number().min(0).max(1);
const rgb = z.tuple([z.number(), z.number(), z.number()]);
/** A lower and an upper bound, both above 0. */
const range = z
  .tuple([z.number().positive(), z.number().positive()])
  .refine(([low, high]) => low <= high, 'expected [low, high] with low ≤ high');

const jitter = z.strictObject({
  brightness: z.number().min(0).max(1).default(0),
  contrast: z.number().min(0).max(1).default(0),
  saturation: z.number().min(0).max(1).default(0),
  hue: z.number().min(0).max(0.5).default(0),
});

/** What happens to an image between the dataset and the network, in this order. Plain JSON: it is kept in run.json. */
const schema = z.strictObject({
  /** Random resized crop: fraction of the image's area that is kept, between these bounds; null for the whole image. */
  randomCrop: range
    .refine(([, high]) => high <= 1, 'expected [low, high] with high ≤ 1')
    .nullable()
    .default(null),
  /** Width over height of the random crop. */
  cropRatio: range.default([3 / 4, 4 / 3]),
  /** Without a random crop: the fraction of the shorter side that a centred crop keeps; null to squash the whole image. */
  centerCrop: z.number().positive().max(1).nullable().default(null),
  interpolation: z.enum(['bilinear', 'bicubic']).default('bilinear'),
  /** Probability of a horizontal flip. */
  flip: probability.default(0),
  /** Colour jitter: each factor is uniform in 1 ± its strength (hue: in ± turns). One number sets the first three. */
  jitter: z
    .union(
      [
        probability.transform(strength => ({ brightness: strength, contrast: strength, saturation: strength, hue: 0 })),
        jitter,
      ],
      'expected a number from 0 to 1, or brightness, contrast and saturation from 0 to 1 and hue from 0 to 0.5',
    )
    .prefault(0),
  mean: rgb.default([0.485, 0.456, 0.406]),
  std: rgb.refine(values => values.every(v => v > 0), 'expected three numbers above 0').default([0.229, 0.224, 0.225]),
  /** Probability of random erasing: a rectangle is set to the mean colour. */
  erase: probability.default(0),
  /** α of the Beta distribution that mixes two images and their labels; 0 for none. With both, each is used half the time. */
  mixup: z.number().min(0).default(0),
  cutmix: z.number().min(0).default(0),
});

export type Augmentation = z.output<typeof schema>;
export type AugmentationOptions = z.input<typeof schema>;

/** Fills in what is not given. The defaults only resize and normalise by ImageNet's statistics. Throws UserError. */
export function parseAugmentation(options: AugmentationOptions = {}): Augmentation {
  return parseOptions(schema, options, 'augment');
}

/** Named augmentations. `train` is the PyTorch recipe that the lab compares with; `article` is what the article trains and tests with. */
export const AUGMENTATIONS = {
  none: {},
  train: { randomCrop: [0.4, 1], flip: 0.5, jitter: 0.3 },
  article: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
} satisfies Record<string, AugmentationOptions>;
