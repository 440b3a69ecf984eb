import { type AttentionResult, attentionAccuracy, attentionCost } from '../lib/charts/attention';
import { variantCurves } from '../lib/charts/curves';
import { differences } from '../lib/charts/intervals';
import { OTHER, OWN } from '../lib/charts/style';
import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import type { Compared } from '../lib/report/experiment';
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
  color: variant => (isSparse(variant) ? OWN : OTHER),
  charts(compared) {
    const { variants, others, setting, colors } = compared;
    const results = byResolution(compared);
    return {
      'attention-cost': attentionCost(results, 'MACs by resolution', 'of the whole network, counted'),
      'attention-accuracy': attentionAccuracy(results, 'Top-1 by resolution', setting),
      ...(others.length > 0 && {
        'attention-differences': differences(
          others,
          'sparse attention',
          'Top-1 of full attention less that of sparse',
          'at each resolution',
          colors,
        ),
      }),
      'attention-curves': variantCurves(variants, 'Top-1 after each epoch', 'means over seeds', colors),
    };
  },
  captions: compared => ({
    'attention-cost': cost(byResolution(compared)),
    'attention-accuracy': `${compared.leader}.`,
  }),
});

const isSparse = (variant: string): boolean => variant.startsWith('sparse');

function byResolution({ variants }: Compared): AttentionResult[] {
  return variants.map(({ runs, macs, top1, variant }) => ({
    attention: isSparse(variant) ? 'sparse' : 'full',
    size: runs[0].height,
    macs,
    top1,
  }));
}

/** What full attention costs at the largest resolution that both were trained at, in a sentence. */
function cost(results: readonly AttentionResult[]): string {
  const largest = Math.max(...results.map(({ size }) => size));
  const [sparse, full] = (['sparse', 'full'] as const).map(kind =>
    results.find(({ attention, size }) => attention === kind && size === largest),
  );
  return sparse && full
    ? `At ${largest} px full attention takes ${percent(full.macs / sparse.macs - 1)} more MACs than sparse.`
    : '';
}
