import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { batchesPerEpoch } from '../data/batches';
import { withSide } from '../data/cache/side';
import type { Dataset } from '../data/dataset';
import { openDataset } from '../data/open';
import { countConfig, totalCount } from '../measure/count';
import { modelOf, type Recipe, type RecipeOptions, resolveRecipe } from '../train/recipe';
import { writeFileAtomic } from '../util/files';
import { type Environment, environment } from './environment';
import { budgetDigest, trialIdentity } from './identity';
import type { KeptDataOptions, Run } from './store';
import { findTrial, type TrialFile } from './trialFile';
import { type TrialResult, trialRow } from './trialResults';

/** Variants of one recipe, each trained with every seed: equal data, steps and augmentation for all. */
export interface Sweep {
  base: RecipeOptions;
  /** What each variant changes, by its name; its model settings are added to the base's. */
  variants: Readonly<Record<string, Partial<RecipeOptions>>>;
  /** Seeds 0 … seeds − 1. */
  seeds: number;
  /** Keys of the recipe and of the model that some variant changes, on which the budget does not depend. */
  varied: readonly string[];
  /** What was set for all variants, as `--set` takes it; the base has it already. */
  asked?: Readonly<Record<string, string>>;
}

export type TrialState = 'waiting' | 'running' | 'done' | 'failed';

/** A trial of a sweep, and how it stands. */
export interface SweepTrial {
  readonly variant: string;
  readonly seed: number;
  readonly recipe: Recipe;
  /** Of its run folder, made of all that decides its outcome. */
  readonly name: string;
  readonly steps: number;
  /** Multiply-accumulates of all its steps: what its time is guessed by. */
  readonly work: number;
  state: TrialState;
  /** Whether it was done before the sweep began. */
  known: boolean;
  /** When this process took it up, and how long it took: milliseconds. */
  began?: number;
  took?: number;
  row?: TrialResult;
  error?: string;
}

export interface SweepPlan {
  dataset: Dataset;
  threads: number;
  /** The folder of runs. */
  runs: string;
  dataOptions: KeptDataOptions;
  budget: string;
  /** What was set for all variants, as `--set` takes it. */
  asked: Readonly<Record<string, string>>;
  /** Seed by seed, so that a sweep which is broken off has seen all variants alike. */
  trials: SweepTrial[];
}

export interface SweepSetting {
  /** The folder of runs. */
  runs: string;
  /** Of TensorFlow inside an op, in each trial. */
  threads: number;
  data?: KeptDataOptions;
  /** In which trials run, but for their threads (default: this process's). */
  surroundings?: Environment;
}

/**
 * Says which trials a sweep has and which of them are done: those whose run folders are there, trained by this code in an environment
 * that decides the same bytes. Trains and writes nothing. Throws UserError for what cannot begin.
 */
export async function planSweep(
  { base, variants, seeds, varied, asked = {} }: Sweep,
  { runs, threads, data: given = {}, surroundings = environment() }: SweepSetting,
): Promise<SweepPlan> {
  const recipes = Array.from({ length: seeds }, (_, seed) => seed).flatMap(seed =>
    Object.entries(variants).map(([variant, changes]) => {
      const modelSettings = { ...base.modelSettings, ...changes.modelSettings };
      return { variant, seed, recipe: resolveRecipe({ ...base, ...changes, modelSettings, seed }) };
    }),
  );
  // All variants see the same images, kept large enough for the largest of them.
  const data = withSide(
    given,
    recipes.flatMap(({ recipe }) => recipe.size).reduce((a, b) => Math.max(a, b)),
  );
  const dataset = await openDataset(base.data, data);
  const budget = budgetDigest(recipes[0].recipe, dataset, varied, base.modelSettings);
  const there = { ...surroundings, threads };
  const plan: SweepPlan = { dataset, threads, runs, dataOptions: data, budget, asked, trials: [] };
  plan.trials = recipes.map(({ variant, seed, recipe }): SweepTrial => {
    const { name } = trialIdentity(recipe, dataset, there);
    const steps = recipe.epochs * batchesPerEpoch(dataset.train, { batchSize: recipe.batch, dropLast: true });
    const { macs } = totalCount(countConfig(modelOf(recipe, dataset.classes.length)));
    const run = findTrial(runs, name);
    const done = run?.status === 'done';
    return {
      variant,
      seed,
      recipe,
      name,
      steps,
      work: steps * recipe.batch * macs,
      state: done ? 'done' : 'waiting',
      known: done,
      ...(done && { row: trialRow(run, dataset, { variant, budget, asked }), took: duration(run) }),
    };
  });
  return plan;
}

/** How long a run took; undefined for one that was interrupted on its way. */
function duration({ record: { started, ended, resumedAt } }: Run): number | undefined {
  return ended === null || resumedAt.length > 0 ? undefined : Date.parse(ended) - Date.parse(started);
}

export interface SweepOptions {
  /** Trials at once, each in a process of its own. */
  jobs: number;
  /** Starts `npm run trial` on a file, with stderr to be read. */
  launch(path: string): ChildProcess;
  /** Ends the trials under way, with a checkpoint, and starts no other. */
  signal: AbortSignal;
  /** Called after each change of a trial's state. */
  onChange(trial: SweepTrial): void;
}

/**
 * Trains what is not done, each trial in a process of its own that writes its run folder: the folders are all that is known of a sweep, so that
 * one which ends in any way resumes where it was. A trial that fails is told, and the rest continues. Resolves when all are done or failed, or the
 * signal ended it.
 */
export async function runSweep(plan: SweepPlan, options: SweepOptions): Promise<void> {
  const queue = plan.trials.filter(({ state }) => state === 'waiting').values();
  const work = async (): Promise<void> => {
    for (const trial of queue) {
      if (options.signal.aborted) return;
      await train(plan, trial, options);
    }
  };
  await Promise.all(Array.from({ length: options.jobs }, work));
}

async function train(
  { dataset, threads, runs, dataOptions, budget, asked }: SweepPlan,
  trial: SweepTrial,
  { launch, signal, onChange }: SweepOptions,
): Promise<void> {
  const { name, recipe, variant } = trial;
  const file = join(runs, 'trials', `${name}.json`);
  writeFileAtomic(file, `${JSON.stringify({ name, threads, dataOptions, recipe } satisfies TrialFile, null, 2)}\n`);
  Object.assign(trial, { state: 'running', began: performance.now() });
  onChange(trial);
  const obstacle = await outcome(launch(file), signal);
  const run = findTrial(runs, name);
  if (run?.status === 'done')
    Object.assign(trial, {
      state: 'done',
      took: performance.now() - trial.began!,
      row: trialRow(run, dataset, { variant, budget, asked }),
    });
  else if (signal.aborted) trial.state = 'waiting';
  else Object.assign(trial, { state: 'failed', error: run?.status === 'failed' ? run.record.error : obstacle });
  onChange(trial);
}

const STDERR_KEPT = 10_000;

/** Waits for a process, and says why it ended: its last line on stderr, or the signal that killed it. */
async function outcome(child: ChildProcess, signal: AbortSignal): Promise<string> {
  let said = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-STDERR_KEPT);
  });
  const stop = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await new Promise<string>(resolve => {
      child.once('error', error => resolve(error.message));
      child.once('close', (code, killer) =>
        resolve(
          killer === null ? (lastLine(said) ?? `it ended with exit status ${code}`) : `it was killed by ${killer}`,
        ),
      );
    });
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function lastLine(text: string): string | undefined {
  return text.trim().split('\n').at(-1) || undefined;
}

/** Steps done of a trial under way, by its run folder. */
export function stepsDone({ runs }: SweepPlan, { name }: SweepTrial): number {
  const rows = findTrial(runs, name)?.metrics() ?? [];
  return rows.at(-1)?.step ?? 0;
}
