import { type AttentionResult, attentionAccuracy, attentionCost } from '../lib/charts/attention';
import { variantCurves } from '../lib/charts/curves';
import { differences } from '../lib/charts/intervals';
import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import { percent } from '../lib/runs/console';
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
  title: 'Full attention against sparse',
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
  baselineName: 'sparse',
  order: (a, b) => a.runs[0].height - b.runs[0].height || b.variant.localeCompare(a.variant),
  charts({ variants, others, leader, setting, verdict }) {
    const results = variants.map(
      ({ runs, macs, top1, variant }): AttentionResult => ({
        attention: variant.startsWith('sparse') ? 'sparse' : 'full',
        size: runs[0].height,
        macs,
        top1,
      }),
    );
    return {
      'attention-cost': attentionCost(results, cost(results), 'of the whole network, counted'),
      'attention-accuracy': attentionAccuracy(results, `Accuracy by resolution: ${leader}`, setting),
      ...(others.length > 0 && {
        'attention-differences': differences(
          others,
          'sparse attention',
          verdict,
          'full attention less sparse at each resolution',
        ),
      }),
      'attention-curves': variantCurves(variants, 'Top-1 after each epoch', 'means over seeds'),
    };
  },
});

/** What full attention costs at the largest resolution that both were trained at. */
function cost(results: readonly AttentionResult[]): string {
  const largest = Math.max(...results.map(({ size }) => size));
  const [sparse, full] = (['sparse', 'full'] as const).map(kind =>
    results.find(({ attention, size }) => attention === kind && size === largest),
  );
  return sparse && full
    ? `At ${largest} px full attention takes ${percent(full.macs / sparse.macs - 1)} more MACs`
    : 'MACs by resolution';
}
