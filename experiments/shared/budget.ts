import type { RecipeOptions } from '../../lib/train/recipe';

/**
 * What all variants of the lab's comparisons have in common: equal images, steps, augmentation and seeds. Short, for networks of any kind, and
 * without drop path, which not all of them have. Experiments share trials, so that one network, trained once, is the baseline of all.
 */
export const BUDGET = {
  model: 'edgevit-xxs',
  data: 'petals',
  size: 96,
  epochs: 8,
  batch: 16,
  dropPath: 0,
  lr: 1e-3,
  weightDecay: 0.05,
  warmupEpochs: 1,
  labelSmoothing: 0.1,
  augment: { randomCrop: [0.6, 1], flip: 0.5, jitter: 0.2 },
} satisfies RecipeOptions;
