import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { hollow, variantColors } from '../charts/style';
import { sourceOf } from '../data/open';
import { shown } from '../runs/environment';
import {
  byVariant,
  equalWeights,
  isReproducible,
  largestBudget,
  leftOut,
  type TrialResult,
  type VariantResult,
} from '../runs/trialResults';
import { mapRecord } from '../util/records';
import { ROOT } from '../util/root';
import { counted } from '../util/text';
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
  const { variants, others, baseline, verdict, leader } = compared;
  const charts = experiment.charts(compared);
  return section(name, title, {
    tables: [variantTable(variants, baseline)],
    charts: rows.every(isReproducible) ? charts : mapRecord(charts, hollow),
    captions: {
      [`${name}-differences`]: `${verdict}.`,
      [`${name}-runs`]: `${leader}. A dot is the mean of the runs, a line its 95 % interval, a tick one run.`,
      ...experiment.captions?.(compared),
    },
    text: [
      `${compared.setting}. ${trainedOn(rows)}`,
      `${verdict}.${byChance(others)}`,
      ...sameWeights(rows),
      ...notShown(leftOut(allRows, rows)),
    ],
    rerun: experimentCommands(name, rows),
  });
}

function compare(
  { name, baseline, baselineName, order, color }: ReportedExperiment,
  rows: readonly TrialResult[],
): Compared {
  const names = [...new Set(rows.map(({ variant }) => variant))];
  const variants = byVariant(rows, baseline).sort(order ?? byGain);
  const others = variants.flatMap(({ variant, difference }) => (difference ? [{ variant, difference }] : []));
  return {
    name,
    rows,
    variants,
    others,
    baseline: baselineName ?? (typeof baseline === 'string' ? baseline : 'its baseline'),
    colors: color ? Object.fromEntries(names.map(variant => [variant, color(variant)])) : variantColors(names),
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
          `${engine}, ${cpu.trim()}, ${counted(threads, 'thread')}, code ${code.slice(0, 8)}`,
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
export function notShown(groups: readonly (readonly TrialResult[])[]): string[] {
  if (groups.length === 0) return [];
  const told = groups.map(group => `${group.length} of ${setting(group)}, ${provenance(group)}`);
  const count = groups.reduce((sum, { length }) => sum + length, 0);
  return [
    `Left out ${count === 1 ? 'is' : 'are'} ${counted(count, 'row')} of other budgets or numerics: ${told.join('; ')}.`,
  ];
}

/** Variants between which there is no difference at all. */
function sameWeights(rows: readonly TrialResult[]): string[] {
  return equalWeights(rows).map(
    ({ seed, variants }) =>
      `With seed ${seed}, ${variants.join(' and ')} ended at the same weights: what tells them apart had no effect.`,
  );
}

/** What `--data` takes for a dataset of this name: a folder that is not where the README has them is for the reader to name. */
export function dataSpec(name: string): string {
  const source = sourceOf(name);
  if (source && !source.hasPath) return name;
  return `folder:${existsSync(join(ROOT, 'datasets', name)) ? `datasets/${name}` : 'PATH'}`;
}
