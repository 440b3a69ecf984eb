import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import { comparisonCharts } from '../lib/report/experiment';
import { BUDGET } from './shared/budget';

/**
 * What does each part of the LGL block buy? EdgeViT-XXS with LocalAgg, the attention between delegates and LocalProp taken away in turn, and
 * with LocalAgg alone.
 *
 * `npm run experiment -- lgl [--data=folder:PATH]`. Five variants × 3 seeds × 8 epochs at 96 px: about 10 min on 2 cores by `--jobs=2`.
 *
 * Promises a table of top-1 with 95 % intervals, and of differences from the whole block, seed by seed. It does not promise that they differ:
 * three short runs tell differences of some points, not of one.
 */
export const experiment = sweepExperiment({
  name: 'lgl',
  title: 'What each part of the LGL block buys',
  question: 'what does each part of the LGL block buy?',
  cost: 'about 10 min',
  promise: 'top-1 without LocalAgg, attention or LocalProp, less that of the whole block',
  base: BUDGET,
  baseline: 'full',
  variants: {
    full: {},
    noLocalAgg: { ablation: 'noLocalAgg' },
    noAttention: { ablation: 'noAttention' },
    noLocalProp: { ablation: 'noLocalProp' },
    localAggOnly: { ablation: 'localAggOnly' },
  },
  charts: comparisonCharts,
});
