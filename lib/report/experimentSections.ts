import { type AttentionResult, attentionAccuracy, attentionCost } from '../charts/attention';
import { variantCurves } from '../charts/curves';
import { accuracies, type Difference, differences } from '../charts/intervals';
import { sampleRateAccuracy, sampleRateCost } from '../charts/sampleRates';
import { hollow } from '../charts/style';
import { percent } from '../runs/console';
import { shown } from '../runs/environment';
import {
  byVariant,
  equalWeights,
  largestBudget,
  leftOut,
  type TrialResult,
  type VariantResult,
} from '../runs/trialResults';
import { experimentCommands } from './commands';
import { byChance, leader, type Section, section, setting, variantTable, verdict } from './sections';

/** The experiments that the report tells: their questions, and the variant that the others are compared with. */
export const EXPERIMENTS = {
  variants: { title: 'Networks under an equal budget', baseline: 'edgevit-xxs' },
  lgl: { title: 'What each part of the LGL block buys', baseline: 'full' },
  delegates: { title: 'What stands for a window in attention', baseline: 'topleft' },
  'sample-rates': { title: 'How sparse attention may be', baseline: '4,2,2,1' },
  attention: { title: 'Full attention against sparse', baseline: 'sparse' },
} as const;

export type ExperimentName = keyof typeof EXPERIMENTS;

/** The section of an experiment, or what is to be done to have one. Charts are named after the experiment. */
export function experimentSection(experiment: ExperimentName, data: string, allRows: readonly TrialResult[]): Section {
  const { title, baseline } = EXPERIMENTS[experiment];
  const rows = largestBudget(allRows);
  if (rows.length === 0) {
    return section(experiment, title, {
      text: [
        `There are no results of the experiment on ${data} yet: \`npm run experiment -- ${experiment} --data=${dataSpec(data)} --save\` makes them.`,
      ],
    });
  }
  const own = experiment === 'attention' ? attention(rows) : compared(experiment, rows, baseline);
  return section(experiment, title, {
    ...own,
    charts: rows.every(({ numerics }) => numerics > 0)
      ? own.charts
      : Object.fromEntries(Object.entries(own.charts ?? {}).map(([name, chart]) => [name, hollow(chart)])),
    text: [
      `${setting(rows)}. ${trainedOn(rows)}`,
      `${own.verdict}. ${own.chance}`,
      ...sameWeights(rows),
      ...notShown(leftOut(allRows, rows)),
    ],
    rerun: experimentCommands(experiment, rows),
  });
}

type Told = Pick<Section, 'charts' | 'tables'> & { verdict: string; chance: string };

function compared(experiment: ExperimentName, rows: readonly TrialResult[], baseline: string): Told {
  const variants = ordered(byVariant(rows, baseline));
  const others = differencesOf(variants);
  const said = others.length === 0 ? leader(variants) : verdict(others);
  const charts = {
    ...(experiment === 'sample-rates' && {
      'sample-rates-curve': sampleRateAccuracy(
        variants,
        baseline,
        `Accuracy by sample rates: ${leader(variants)}`,
        setting(rows),
      ),
      'sample-rates-cost': sampleRateCost(
        variants,
        baseline,
        'Cost by sample rates',
        'counted; the sparser, the cheaper',
      ),
    }),
    ...(others.length > 0 && { [`${experiment}-differences`]: differences(others, baseline, said, setting(rows)) }),
    [`${experiment}-runs`]: accuracies(
      variants,
      baseline,
      `Top-1 of every run: ${leader(variants)}`,
      '95 % intervals of the mean; a tick is one run',
    ),
    [`${experiment}-curves`]: variantCurves(variants, 'Top-1 after each epoch', 'means over seeds'),
  };
  return {
    charts,
    tables: [variantTable(variants, baseline)],
    verdict: said,
    chance: others.length === 0 ? '' : byChance(others.length),
  };
}

/** The baseline first, then the largest gain. */
function ordered(variants: readonly VariantResult[]): VariantResult[] {
  const gain = ({ difference }: VariantResult): number => difference?.mean ?? Infinity;
  return [...variants].sort((a, b) => gain(b) - gain(a));
}

/** The largest gain first. */
function differencesOf(variants: readonly VariantResult[]): Difference[] {
  return variants
    .flatMap(({ variant, difference }) => (difference ? [{ variant, difference }] : []))
    .sort((a, b) => b.difference.mean - a.difference.mean);
}

/** Variants are `sparse-96`, `full-96`, …: each full one is compared with the sparse one of its own resolution. */
function attention(rows: readonly TrialResult[]): Told {
  const sizes = [...new Set(rows.map(({ height }) => height))].sort((a, b) => a - b);
  const variants = byVariant(rows, variant => variant.replace('full', 'sparse')).sort(
    (a, b) => a.runs[0].height - b.runs[0].height || b.variant.localeCompare(a.variant),
  );
  const results = variants.map(
    ({ runs, macs, top1, variant }): AttentionResult => ({
      attention: variant.startsWith('sparse') ? 'sparse' : 'full',
      size: runs[0].height,
      macs,
      top1,
    }),
  );
  const others = variants.flatMap(({ variant, difference }) => (difference ? [{ variant, difference }] : []));
  const largest = sizes[sizes.length - 1];
  const [sparse, full] = (['sparse', 'full'] as const).map(kind =>
    results.find(({ attention, size }) => attention === kind && size === largest),
  );
  const cost =
    sparse && full
      ? `At ${largest} px full attention takes ${percent(full.macs / sparse.macs - 1)} more MACs`
      : 'MACs by resolution';
  const said = others.length === 0 ? leader(variants) : verdict(others);
  return {
    charts: {
      'attention-cost': attentionCost(results, cost, 'of the whole network, counted'),
      'attention-accuracy': attentionAccuracy(results, `Accuracy by resolution: ${leader(variants)}`, setting(rows)),
      ...(others.length > 0 && {
        'attention-differences': differences(
          others,
          'sparse attention',
          said,
          'full attention less sparse at each resolution',
        ),
      }),
      'attention-curves': variantCurves(variants, 'Top-1 after each epoch', 'means over seeds'),
    },
    tables: [variantTable(variants, 'sparse')],
    verdict: said,
    chance: others.length === 0 ? '' : byChance(others.length),
  };
}

function trainedOn(rows: readonly TrialResult[]): string {
  const machines = [
    ...new Set(
      rows.map(
        ({ engine, cpu, threads, code }) =>
          `${engine}, ${cpu.trim()}, ${threads} thread${threads === 1 ? '' : 's'}, code ${code.slice(0, 8)}`,
      ),
    ),
  ];
  return `Trained with ${machines.join('; ')}; ${provenance(rows)}.`;
}

/** The commits that make rows again: `numerics 1, commit 0123456789ab`. */
export function provenance(rows: readonly TrialResult[]): string {
  const said = rows.map(({ numerics, origin }) => {
    const commit = origin === null ? 'unknown' : shown('git', origin.environment);
    return `numerics ${numerics}, commit ${commit}`;
  });
  return [...new Set(said)].join('; ');
}

/** Rows of the file that are not shown, because they compare with none of those that are. */
function notShown(groups: readonly (readonly TrialResult[])[]): string[] {
  if (groups.length === 0) return [];
  const told = groups.map(group => `${group.length} of ${setting(group)}, ${provenance(group)}`);
  const count = groups.reduce((sum, { length }) => sum + length, 0);
  return [
    `Left out ${count === 1 ? 'is 1 row' : `are ${count} rows`} of other budgets or numerics: ${told.join('; ')}.`,
  ];
}

/** Variants between which there is no difference at all. */
function sameWeights(rows: readonly TrialResult[]): string[] {
  return equalWeights(rows).map(
    ({ seed, variants }) =>
      `With seed ${seed}, ${variants.join(' and ')} ended at the same weights: what tells them apart had no effect.`,
  );
}

/** What `--data` takes for a dataset of this name: folders are looked for where the README has them. */
export function dataSpec(name: string): string {
  return ['petals', 'flowers102'].includes(name) ? name : `folder:datasets/${name}`;
}
