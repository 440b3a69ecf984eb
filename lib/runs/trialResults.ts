import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Dataset } from '../data/dataset';
import { type MeanInterval, meanInterval } from '../measure/statistics';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { ROOT } from '../util/root';
import { configurationDigest } from './identity';
import type { Run } from './store';

/** Where the results of experiments are kept, in git: small files that notebooks and reports read. */
export const RESULTS = join(ROOT, 'experiments/results');

const count = z.number().int().min(0);
const share = z.number().min(0).max(1);

/** One trained network of an experiment, measured on test images after its last epoch: no epoch is chosen by what it shows. */
const schema = z.strictObject({
  /** What the experiment calls it: `full`, `noLocalAgg`, … */
  variant: z.string(),
  seed: count,
  /** Digest of what was asked, the images included: equal ones are the same trial, by the same code or another. */
  trial: z.string(),
  /** Digest of all that variants share: those of one budget can be compared. */
  budget: z.string(),
  data: z.string(),
  /** Images trained on, and images tested with. */
  train: count,
  test: count,
  classes: count,
  model: z.string(),
  /** Pixels. */
  height: count,
  width: count,
  epochs: count,
  batch: count,
  params: count,
  /** Per image. */
  macs: count,
  top1: share,
  top5: share,
  /** Mean cross-entropy, in nats. */
  loss: z.number(),
  /** Top-1 after each epoch: of the validation images, where there are any beside the test images. */
  curve: z.array(share),
  /** Of training alone; null where no step could be timed. */
  imagesPerSecond: z.number().nullable(),
  /** sha256 of the last weights, its beginning: equal on equal engines. */
  weights: z.string(),
  engine: z.string(),
  cpu: z.string(),
  /** Of TensorFlow inside an op. */
  threads: count,
  /** Digest of the code that trained it, its beginning. */
  code: z.string(),
});

export type TrialResult = z.infer<typeof schema>;

/** The file of an experiment's rows on a dataset: of those that are published, unless another folder is given. */
export function resultsFile(experiment: string, data: string, folder = RESULTS): string {
  return join(folder, `${experiment}-${data.replace(/[^\w.-]+/g, '-')}.json`);
}

/** All rows of a file, none where there is no file. Throws UserError for a file of another kind. */
export function readResults(path: string): TrialResult[] {
  if (!existsSync(path)) return [];
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UserError(`${path} holds no results: ${(error as Error).message}.`);
  }
  const { success, data, error } = z.array(schema).safeParse(json);
  if (!success)
    throw new UserError(
      `${path} holds no results: ${error.issues[0].path.join('.') || 'it'}: ${error.issues[0].message}.`,
    );
  return data;
}

/** Puts rows at the end of a file in this order, in place of those of the same trials: the file is there whole, with the rows or without them. */
export function putResults(path: string, rows: readonly TrialResult[]): void {
  const others = readResults(path).filter(({ trial }) => !rows.some(row => row.trial === trial));
  writeFileAtomic(path, `[\n${[...others, ...rows].map(row => JSON.stringify(row)).join(',\n')}\n]\n`);
}

/** A done run as a row of an experiment. */
export function trialRow(
  run: Run,
  pictures: Pick<Dataset, 'name' | 'fingerprint' | 'classes'>,
  { variant, budget }: Pick<TrialResult, 'variant' | 'budget'>,
): TrialResult {
  const {
    recipe,
    model,
    dataset,
    environment: { engine, cpu, threads, code },
  } = run.record;
  const { top1, top5, loss, imagesPerSecond, weights } = run.record.result!;
  const { size, seed, epochs, batch } = recipe;
  const [height, width] = typeof size === 'number' ? [size, size] : size;
  return {
    variant,
    seed,
    trial: configurationDigest(recipe, pictures),
    budget,
    data: dataset.name,
    train: dataset.train,
    test: dataset.test,
    classes: dataset.classes.length,
    model: model.name,
    height,
    width,
    epochs,
    batch,
    params: model.params,
    macs: model.macs,
    top1,
    top5,
    loss,
    curve: run.epochs().map(({ evalTop1 }) => round(evalTop1, 4)),
    imagesPerSecond: imagesPerSecond === null ? null : round(imagesPerSecond, 1),
    weights: weights.slice(0, 16),
    engine,
    cpu: cpu.trim(),
    threads,
    code: code.slice(0, 16),
  };
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));

/** The rows of the budget that has most of them: a quick look with other settings, kept in the same file, is left out. */
export function largestBudget(rows: readonly TrialResult[]): TrialResult[] {
  const groups = groupBy(rows, 'budget');
  return [...groups.values()].reduce<TrialResult[]>(
    (largest, group) => (group.length > largest.length ? group : largest),
    [],
  );
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
  const groups = groupBy(rows, 'variant');
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

/** By the value of a key, in the order of first appearance. */
function groupBy(rows: readonly TrialResult[], key: 'budget' | 'variant'): Map<string, TrialResult[]> {
  const groups = new Map<string, TrialResult[]>();
  for (const row of rows) groups.set(row[key], [...(groups.get(row[key]) ?? []), row]);
  return groups;
}

/** Whether an interval lies wholly on one side of zero. */
export function isClear({ mean, half }: MeanInterval): boolean {
  return half !== null && Math.abs(mean) > half;
}
