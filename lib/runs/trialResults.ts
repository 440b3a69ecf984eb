import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type MeanInterval, meanInterval } from '../measure/statistics';
import type { TrainingPlan } from '../train/plan';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { FORMAT_VERSION } from '../util/format';
import { ROOT } from '../util/root';
import { printable } from '../util/text';
import { contradictionOf } from './consistency';
import { configurationDigest } from './identity';
import { portableData, portableOptions } from './portable';
import { dataOptionsSchema, environmentSchema, recipeSchema } from './schemas';
import type { Run } from './store';

/** Where the results of experiments are kept, in git: small files that notebooks and reports read. */
export const RESULTS = join(ROOT, 'experiments/results');

const count = z.number().int().min(0);
const fraction = z.number().min(0).max(1);

/** What a row of any format tells. */
const told = {
  /** What the experiment calls it: `full`, `noLocalAgg`, … */
  variant: z.string(),
  /** Digest of all that variants have in common: those of one budget can be compared. */
  budget: z.string(),
  /** Digest of what was asked beyond the defaults, the images included: equal ones are the same trial, in one environment or another. */
  trial: z.string(),
  /** The dataset's name. */
  data: z.string(),
  /** Images trained on, and tested with. */
  train: count,
  test: count,
  classes: count,
  params: count,
  /** Per image. */
  macs: count,
  top1: fraction,
  top5: fraction,
  /** Mean cross-entropy, in nats; null where it was not finite. */
  loss: z.number().nullable(),
  /** Top-1 after each epoch: of the validation images, where there are any beside the test images. */
  curve: z.array(fraction),
  /** Of training alone; null where no step could be timed. */
  imagesPerSecond: z.number().nullable(),
  /** sha256 of the last weights, its beginning: equal in equal environments. */
  weights: z.string(),
};

/** What a row tells that follows from its recipe and its environment; rows of format 1 have neither, and say these alone. */
const derived = {
  seed: count,
  model: z.string(),
  /** Pixels. */
  height: count,
  width: count,
  epochs: count,
  batch: count,
  engine: z.string(),
  cpu: z.string(),
  /** Of TensorFlow inside an op. */
  threads: count,
  /** Digest of the code that trained it, its beginning. */
  code: z.string(),
};

/** All that it takes to train a row again. */
const origin = {
  /** The whole recipe, defaults filled in; and the version of the defaults. */
  recipe: recipeSchema,
  recipeVersion: z.number().int(),
  /** What was set for all variants of the experiment, as `--set` takes it. */
  asked: z.record(z.string(), z.string()),
  dataOptions: dataOptionsSchema,
  fingerprint: z.string(),
  environment: environmentSchema,
};

const rowOfFormat1 = z.strictObject({ ...told, ...derived });
const rowOfFormat2 = z.strictObject({ ...told, ...origin });

/** One trained network of an experiment, measured on test images after its last epoch: no epoch is chosen by what it shows. */
export interface TrialResult extends z.output<typeof rowOfFormat1> {
  /** Version of what the lab computed; 0 for rows of format 1, which name no commit that can make them again. */
  numerics: number;
  /** Null for rows of format 1. */
  origin: z.output<z.ZodObject<typeof origin>> | null;
}

const FORMAT = { format: 'edgevit-lab results', version: FORMAT_VERSION } as const;

/** The file of an experiment's rows on a dataset: of those that are published, unless another folder is given. */
export function resultsFile(experiment: string, data: string, folder = RESULTS): string {
  return join(folder, `${experiment}-${data.replace(/[^\w.-]+/g, '-')}.json`);
}

/** All rows of a file, none where there is no file. Throws UserError for a file of another kind, and one that has a row twice. */
export function readResults(path: string): TrialResult[] {
  return existsSync(path) ? parseResults(path, readFileSync(path, 'utf8')) : [];
}

/** The same of a file's text. */
export function parseResults(path: string, text: string): TrialResult[] {
  const refuse = (why: string): never => {
    throw new UserError(`${printable(path)} holds no results: ${printable(why)}.`);
  };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return refuse((error as Error).message);
  }
  const rows = (Array.isArray(json) ? json : rowsOf(json, refuse)).map((row: unknown, i) => {
    const isOld = typeof row !== 'object' || row === null || !('recipe' in row);
    const parsed = isOld ? rowOfFormat1.safeParse(row) : rowOfFormat2.safeParse(row);
    if (!parsed.success) {
      const [{ path: at, message }] = parsed.error.issues;
      return refuse(`its row ${i + 1}${at.length > 0 ? `, ${at.join('.')}` : ''}: ${message}`);
    }
    return 'recipe' in parsed.data ? ofFormat2(parsed.data) : { ...parsed.data, numerics: 0, origin: null };
  });
  const slots = new Set<string>();
  const twice = rows.findIndex(row => slots.size === slots.add(slot(row)).size);
  return twice >= 0 ? refuse(`it has ${describeSlot(rows[twice])} twice`) : rows;
}

function rowsOf(json: unknown, refuse: (why: string) => never): unknown[] {
  const { format, version, rows } = (json ?? {}) as Record<string, unknown>;
  if (format !== FORMAT.format || !Array.isArray(rows)) return refuse('it has no rows');
  return version === FORMAT.version
    ? rows
    : refuse(`its format is ${String(version)}, this lab reads up to ${FORMAT.version}`);
}

function ofFormat2(row: z.output<typeof rowOfFormat2>): TrialResult {
  const { recipe, recipeVersion, asked, dataOptions, fingerprint, environment, ...rest } = row;
  return withOrigin(rest, { recipe, recipeVersion, asked, dataOptions, fingerprint, environment });
}

function withOrigin(row: z.output<z.ZodObject<typeof told>>, origin: NonNullable<TrialResult['origin']>): TrialResult {
  const { recipe, environment } = origin;
  const [height, width] = typeof recipe.size === 'number' ? [recipe.size, recipe.size] : recipe.size;
  return {
    ...row,
    seed: recipe.seed,
    model: recipe.model,
    height,
    width,
    epochs: recipe.epochs,
    batch: recipe.batch,
    engine: environment.engine,
    cpu: environment.cpu,
    threads: environment.threads,
    code: environment.code.slice(0, 16),
    numerics: environment.numerics,
    origin,
  };
}

/** What there is one row of: a variant with a seed, in a budget, by one version of the lab's numerics. */
function slot({ variant, seed, budget, numerics }: TrialResult): string {
  return JSON.stringify([variant, seed, budget, numerics]);
}

function describeSlot({ variant, seed, budget, numerics }: TrialResult): string {
  return `the variant '${variant}', seed ${seed}, budget ${budget}, numerics ${numerics}`;
}

/** Puts rows at the end of a file in this order, in place of those of the same trials: the file is there whole, with the rows or without them. */
export function putResults(path: string, rows: readonly TrialResult[]): void {
  const slots = new Set(rows.map(slot));
  const others = readResults(path).filter(row => !slots.has(slot(row)));
  writeFileAtomic(path, formatResults([...others, ...rows]));
}

/** Rows as a file of results. */
export function formatResults(rows: readonly TrialResult[]): string {
  const lines = rows.map(row => `    ${JSON.stringify(stored(row))}`).join(',\n');
  return `${JSON.stringify(FORMAT, null, 2).slice(0, -2)},\n  "rows": [\n${lines}\n  ]\n}\n`;
}

/** Whether a commit makes a row again: it names one, and the checkout was as committed. */
export function isReproducible({ numerics, origin }: TrialResult): boolean {
  return numerics > 0 && origin?.environment.git?.dirty === false;
}

/** A row as its file has it: what follows from recipe and environment is not written beside them. */
function stored({ numerics: _, origin, ...row }: TrialResult): object {
  if (!origin) return row;
  const own = Object.keys(told) as (keyof typeof told)[];
  return { ...Object.fromEntries(own.map(key => [key, row[key]])), ...origin };
}

/** Rows of different variants, of one seed and budget, that ended at the same weights: what tells the variants apart had no effect. */
export function equalWeights(rows: readonly TrialResult[]): { seed: number; variants: string[] }[] {
  const groups = groupBy(
    rows.filter(({ weights }) => weights !== ''),
    ({ weights, seed, budget, numerics }) => JSON.stringify([weights, seed, budget, numerics]),
  );
  return [...groups.values()]
    .filter(group => group.length > 1)
    .map(group => ({ seed: group[0].seed, variants: group.map(({ variant }) => variant) }));
}

/** A done run as a row of an experiment. Throws UserError for one whose files contradict each other: what is published was counted. */
export function trialRow(
  run: Run,
  plan: Pick<TrainingPlan, 'configuration'>,
  { variant, budget, asked = {} }: { variant: string; budget: string; asked?: Readonly<Record<string, string>> },
): TrialResult {
  const { name, recipe, recipeVersion, model, dataset, environment, dataOptions, result } = run.record;
  const contradicts = contradictionOf(run);
  if (contradicts !== undefined)
    throw new UserError(
      `The run '${name}' contradicts itself, so it is no result: ${contradicts}. Remove ${run.folder} to train it again.`,
    );
  const { top1, top5, loss, imagesPerSecond, weights } = result!;
  return withOrigin(
    {
      variant,
      budget,
      trial: configurationDigest(plan),
      data: dataset.name,
      train: dataset.train,
      test: dataset.test,
      classes: dataset.classes.length,
      params: model.params,
      macs: model.macs,
      top1,
      top5,
      loss,
      curve: run.epochs().map(({ evalTop1 }) => round(evalTop1, 4)),
      imagesPerSecond: imagesPerSecond === null ? null : round(imagesPerSecond, 1),
      weights: weights.slice(0, 16),
    },
    {
      recipe: { ...recipe, data: portableData(recipe.data) },
      recipeVersion,
      asked,
      dataOptions: portableOptions(dataOptions),
      fingerprint: dataset.fingerprint,
      environment: environmentSchema.parse(environment),
    },
  );
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));

/**
 * The rows that compare with each other: of one budget and one version of the numerics. Of several such groups that with most rows, of
 * equally many the one that was written last; `leftOut` says what else there is.
 */
export function largestBudget(rows: readonly TrialResult[]): TrialResult[] {
  const groups = groupBy(rows, ({ budget, numerics }) => `${budget} ${numerics}`);
  return [...groups.values()].reduce<TrialResult[]>(
    (largest, group) => (group.length >= largest.length ? group : largest),
    [],
  );
}

/** The other groups of rows of a file, which compare with none of those that are shown. */
export function leftOut(rows: readonly TrialResult[], shown: readonly TrialResult[]): TrialResult[][] {
  const others = rows.filter(row => !shown.includes(row));
  return [...groupBy(others, ({ budget, numerics }) => `${budget} ${numerics}`).values()];
}

/** What the seeds of one variant say together. */
export interface VariantResult extends Pick<TrialResult, 'variant' | 'params' | 'macs'> {
  /** By seed. */
  runs: readonly TrialResult[];
  top1: MeanInterval;
  /** Its top-1 less the baseline's of the same seed: equal seeds share order, augmentation and most first weights, which then cancel. Null for the baseline. */
  difference: MeanInterval | null;
}

/** Rows of one budget by variant, in the order of their first appearance, each beside `baseline`, or beside its own one. */
export function byVariant(
  rows: readonly TrialResult[],
  baseline: string | ((variant: string) => string),
): VariantResult[] {
  const groups = groupBy(rows, ({ variant }) => variant);
  return [...groups].map(([variant, group]) => {
    const other = typeof baseline === 'string' ? baseline : baseline(variant);
    const reference = new Map(groups.get(other)?.map(({ seed, top1 }) => [seed, top1]));
    const runs = group.sort((a, b) => a.seed - b.seed);
    const differences = runs
      .filter(({ seed }) => reference.has(seed))
      .map(({ seed, top1 }) => top1 - reference.get(seed)!);
    return {
      variant,
      runs,
      params: runs[0].params,
      macs: runs[0].macs,
      top1: meanInterval(runs.map(({ top1 }) => top1)),
      difference: variant === other || differences.length === 0 ? null : meanInterval(differences),
    };
  });
}

/** In the order of first appearance. */
function groupBy(rows: readonly TrialResult[], key: (row: TrialResult) => string): Map<string, TrialResult[]> {
  const groups = new Map<string, TrialResult[]>();
  for (const row of rows) groups.set(key(row), [...(groups.get(key(row)) ?? []), row]);
  return groups;
}

/** Whether an interval lies wholly on one side of zero. */
export function isClear({ mean, half }: MeanInterval): boolean {
  return half !== null && Math.abs(mean) > half;
}
