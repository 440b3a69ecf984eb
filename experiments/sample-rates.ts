import { sampleRateAccuracy, sampleRateCost } from '../lib/charts/sampleRates';
import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import { comparisonCharts } from '../lib/report/experiment';
import { BUDGET } from './shared/budget';

const OTHERS = [
  [1, 1, 1, 1],
  [2, 1, 1, 1],
  [2, 2, 1, 1],
  [2, 2, 2, 1],
  [4, 1, 1, 1],
  [4, 2, 1, 1],
  [4, 4, 2, 1],
  [8, 4, 2, 1],
];

/**
 * How sparse may attention be? EdgeViT-XXS with the published sample rates, one for each stage, and with eight others, from full attention to a
 * delegate for 8×8 pixels.
 *
 * `npm run experiment -- sample-rates [--data=folder:PATH]`. Nine variants × 3 seeds × 8 epochs at 96 px: about 20 min on 2 cores by `--jobs=2`.
 *
 * Promises top-1 beside MACs for each, and differences from the published rates.
 */
export const experiment = sweepExperiment({
  name: 'sample-rates',
  title: 'How sparse attention may be',
  question: 'how sparse may attention be?',
  cost: 'about 20 min',
  promise: 'top-1 and MACs by sample rates; each less the published 4,2,2,1',
  base: BUDGET,
  baseline: '4,2,2,1',
  variants: {
    '4,2,2,1': {},
    ...Object.fromEntries(OTHERS.map(rates => [String(rates), { modelSettings: { sampleRates: rates } }])),
  },
  charts: compared => ({
    'sample-rates-curve': sampleRateAccuracy(
      compared.variants,
      'Top-1 by sample rates',
      compared.setting,
      compared.colors,
    ),
    'sample-rates-cost': sampleRateCost(compared.variants, 'MACs by sample rates', 'counted', compared.colors),
    ...comparisonCharts(compared),
  }),
  captions: ({ leader }) => ({
    'sample-rates-curve': `${leader}.`,
    'sample-rates-cost': 'The sparser attention is, the fewer MACs.',
  }),
});
