import { variantCurves } from '../charts/curves';
import { accuracies, type Difference, differences } from '../charts/intervals';
import type { Chart, VariantColors } from '../charts/style';
import type { TrialResult, VariantResult } from '../runs/trialResults';

/** What an experiment's rows come to, for its charts to be drawn from. */
export interface Compared {
  name: string;
  /** Of one budget and one version of the numerics. */
  rows: readonly TrialResult[];
  /** The baseline first, then the largest gain, unless the experiment has another order. */
  variants: readonly VariantResult[];
  /** Of those variants that have a baseline, in the same order; none where one variant was trained alone. */
  others: readonly Difference[];
  /** What the variants are compared with, as it is called. */
  baseline: string;
  /** Of each variant, the same in all charts. */
  colors: VariantColors;
  /** Which variant has the highest mean, what the rows were made of, and for which differences the CI excludes 0: each in a line. */
  leader: string;
  setting: string;
  verdict: string;
}

/** What the report tells of an experiment; its file in experiments/ says it. */
export interface ReportedExperiment {
  name: string;
  title: string;
  /** The variant that the others are compared with, or that of each. */
  baseline: string | ((variant: string) => string);
  /** What to call it where each has its own. */
  baselineName?: string;
  /** Of the variants (default: the largest gain first). */
  order?(a: VariantResult, b: VariantResult): number;
  /** Of a variant, where several are of one kind (default: one for each, in the order of the rows). */
  color?(variant: string): string;
  /** By the names of their files. Their titles describe. */
  charts(compared: Compared): Record<string, Chart>;
  /** What charts show, by their names: captions claim. */
  captions?(compared: Compared): Record<string, string>;
}

/** The charts of any comparison with a baseline: the differences, every run, and the curves. */
export function comparisonCharts({
  name,
  variants,
  others,
  baseline,
  colors,
  setting,
}: Compared): Record<string, Chart> {
  return {
    ...(others.length > 0 && {
      [`${name}-differences`]: differences(others, baseline, `Top-1 less that of ${baseline}`, setting, colors),
    }),
    [`${name}-runs`]: accuracies(variants, 'Top-1 of every run', setting, colors),
    [`${name}-curves`]: variantCurves(variants, 'Top-1 after each epoch', 'means over seeds', colors),
  };
}
