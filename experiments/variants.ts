import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import { comparisonCharts } from '../lib/report/experiment';
import { BUDGET } from './shared/budget';

const MODELS = ['edgevit-xxs', 'edgevit-xs', 'edgevit-s', 'mobilenet-v2', 'vit-tiny'];

/**
 * What does a larger network, or another one, buy under an equal budget? The three EdgeViTs, MobileNetV2 and ViT-Tiny, from nothing.
 *
 * `npm run experiment -- variants [--data=folder:PATH]`. Five models × 3 seeds × 8 epochs at 96 px: about 25 min on 2 cores by `--jobs=2`.
 *
 * Promises the accuracy of the trade-offs: top-1 beside parameters and MACs. A few hundred images rank networks by how fast they learn from
 * nothing, which ImageNet's million does not.
 */
export const experiment = sweepExperiment({
  name: 'variants',
  title: 'Networks under an equal budget',
  question: 'what does a larger network, or another one, buy?',
  cost: 'about 25 min',
  promise: 'top-1, parameters and MACs of XXS, XS, S, MobileNetV2 and ViT-Tiny',
  base: BUDGET,
  baseline: 'edgevit-xxs',
  variants: Object.fromEntries(MODELS.map(model => [model, { model }])),
  charts: comparisonCharts,
});
