import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import { BUDGET } from './shared/budget';

/**
 * What does attention among all pixels buy over that among delegates, and what does it cost as images grow? EdgeViT-XXS with sparse and with
 * full attention at 64, 96 and 128 px.
 *
 * `npm run experiment -- attention [--data=folder:PATH]`. Six variants × 3 seeds × 8 epochs: about 18 min on 2 cores by `--jobs=2`.
 *
 * Promises top-1 and MACs of each, and the difference that full attention makes at each size.
 */
export const experiment = sweepExperiment({
  name: 'attention',
  question: 'what does full attention buy over sparse, and cost, as images grow?',
  cost: 'about 18 min',
  promise: 'top-1 and MACs of both at 64, 96 and 128 px; full less sparse at each size',
  base: BUDGET,
  baseline: variant => variant.replace('full', 'sparse'),
  variants: Object.fromEntries(
    [64, 96, 128].flatMap(size => [
      [`sparse-${size}`, { size }],
      [`full-${size}`, { size, ablation: 'fullAttention' }],
    ]),
  ),
});
