import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import { RECIPES } from '../lib/train/recipe';

/**
 * How far does EdgeViT-XXS come on Flowers-102 from nothing? The official split, 1,020 images to train on, by the recipe of the lab's twelve
 * flowers.
 *
 * `npm run experiment -- flowers`. 3 seeds × 60 epochs at 96 px: about 45 min on 2 cores, and a download of 345 MB the first time.
 *
 * Promises top-1 on the 6,149 test images. Published results of 90 % and more begin with weights of ImageNet; this begins with none.
 */
export const experiment = sweepExperiment({
  name: 'flowers',
  title: 'EdgeViT-XXS on Flowers-102',
  question: 'how far does EdgeViT-XXS come on Flowers-102 from nothing?',
  cost: 'about 45 min, and a download of 345 MB',
  promise: 'top-1 on the official 6,149 test images, of 3 seeds',
  base: { ...RECIPES.flowers12.options, data: 'flowers102' },
  baseline: 'edgevit-xxs',
  variants: { 'edgevit-xxs': {} },
});
