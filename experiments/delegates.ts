import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import { comparisonCharts } from '../lib/report/experiment';
import { BUDGET } from './shared/budget';

/**
 * Which delegate speaks best for its window? EdgeViT-XXS with the top-left pixel, as the official code takes it, the mean, and the maximum.
 *
 * `npm run experiment -- delegates [--data=folder:PATH]`. Three variants × 3 seeds × 8 epochs at 96 px: about 7 min on 2 cores by `--jobs=2`.
 *
 * Promises top-1 of each, and differences from the top-left pixel.
 */
export const experiment = sweepExperiment({
  name: 'delegates',
  title: 'What stands for a window in attention',
  question: 'which delegate speaks best for its window?',
  cost: 'about 7 min',
  promise: 'top-1 with the mean and the maximum, less that with the top-left pixel',
  base: BUDGET,
  baseline: 'topleft',
  variants: { topleft: {}, mean: { ablation: 'delegateMean' }, max: { ablation: 'delegateMax' } },
  charts: comparisonCharts,
});
