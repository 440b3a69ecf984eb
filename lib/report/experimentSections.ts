import { hollow } from '../charts/style';
import { sourceOf } from '../data/open';
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
import type { Compared, ReportedExperiment } from './experiment';
import { byChance, leader, type Section, section, setting, variantTable, verdict } from './sections';

/** The section of an experiment, or what is to be done to have one. Charts are named after the experiment. */
export function experimentSection(
  experiment: ReportedExperiment,
  data: string,
  allRows: readonly TrialResult[],
): Section {
  const { name, title } = experiment;
  const rows = largestBudget(allRows);
  if (rows.length === 0) {
    return section(name, title, {
      text: [
        `There are no results of the experiment on ${data} yet: \`npm run experiment -- ${name} --data=${dataSpec(data)} --save\` makes them.`,
      ],
    });
  }
  const compared = compare(experiment, rows);
  const { variants, others, baseline } = compared;
  const charts = experiment.charts(compared);
  return section(name, title, {
    tables: [variantTable(variants, baseline)],
    charts: rows.every(({ numerics }) => numerics > 0)
      ? charts
      : Object.fromEntries(Object.entries(charts).map(([name, chart]) => [name, hollow(chart)])),
    text: [
      `${compared.setting}. ${trainedOn(rows)}`,
      `${compared.verdict}. ${others.length === 0 ? '' : byChance(others.length)}`,
      ...sameWeights(rows),
      ...notShown(leftOut(allRows, rows)),
    ],
    rerun: experimentCommands(name, rows),
  });
}

function compare({ name, baseline, baselineName, order }: ReportedExperiment, rows: readonly TrialResult[]): Compared {
  const variants = byVariant(rows, baseline).sort(order ?? byGain);
  const others = variants.flatMap(({ variant, difference }) => (difference ? [{ variant, difference }] : []));
  return {
    name,
    rows,
    variants,
    others,
    baseline: baselineName ?? (typeof baseline === 'string' ? baseline : 'its baseline'),
    leader: leader(variants),
    setting: setting(rows),
    verdict: others.length === 0 ? leader(variants) : verdict(others),
  };
}

/** The baseline first, then the largest gain. */
function byGain(a: VariantResult, b: VariantResult): number {
  const gain = ({ difference }: VariantResult): number => difference?.mean ?? Infinity;
  return gain(b) - gain(a);
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
  const source = sourceOf(name);
  return source && !source.hasPath ? name : `folder:datasets/${name}`;
}
