import { join } from 'node:path';
import { withSide } from '../data/cache/side';
import type { Dataset } from '../data/dataset';
import { planTraining, type TrainingPlan } from '../train/plan';
import { type Recipe, type RecipeOptions, resolveRecipe } from '../train/recipe';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import type { Backend, Task } from './backends/backend';
import { type Environment, environment } from './environment';
import { budgetDigest, trialIdentity } from './identity';
import type { ResultsCache } from './received';
import type { KeptDataOptions, Run } from './store';
import { findTrial, type TrialFile } from './trialFile';
import { type TrialResult, trialRow } from './trialResults';

/** Variants of one recipe, each trained with every seed: equal data, steps and augmentation for all. */
export interface Sweep {
  base: RecipeOptions;
  /** What each variant changes, by its name; its model settings are added to the base's. */
  variants: Readonly<Record<string, Partial<RecipeOptions>>>;
  seeds: readonly number[];
  /** Keys of the recipe and of the model that some variant changes, on which the budget does not depend. */
  varied: readonly string[];
  /** What was set for all variants, as `--set` takes it; the base has it already. */
  asked?: Readonly<Record<string, string>>;
}

/** A sweep whose every recipe is checked, before any image is opened. */
export interface ResolvedSweep extends Sweep {
  /** Seed by seed, so that a sweep which is broken off has seen all variants alike. */
  requests: readonly { variant: string; seed: number; recipe: Recipe }[];
  /** How the dataset of `base.data` is to be opened: all variants see the same images, kept large enough for the largest of them. */
  dataOptions: KeptDataOptions;
}

export type TrialState = 'waiting' | 'running' | 'done' | 'failed';

/** A trial of a sweep, and how it stands. */
export interface SweepTrial {
  readonly variant: string;
  readonly seed: number;
  readonly plan: TrainingPlan;
  /** Of its run folder, made of all that decides its outcome; and the whole digest of that. */
  readonly name: string;
  readonly digest: string;
  /** Multiply-accumulates of all its steps: what its time is guessed by. */
  readonly work: number;
  state: TrialState;
  /** Whether it was done before the sweep began, in the folder of runs or in a cache. */
  known: boolean;
  /** What a scheduler says of it. */
  note?: string;
  /** The step that it is at by a backend that trains it elsewhere. */
  step?: number;
  /** When this process took it up, and how long it took: milliseconds. */
  began?: number;
  took?: number;
  row?: TrialResult;
  error?: string;
}

export interface SweepPlan {
  threads: number;
  /** The folder of runs. */
  runs: string;
  dataOptions: KeptDataOptions;
  budget: string;
  /** What was set for all variants, as `--set` takes it. */
  asked: Readonly<Record<string, string>>;
  trials: SweepTrial[];
}

export interface SweepSetting {
  /** The folder of runs. */
  runs: string;
  /** Of TensorFlow inside an op, in each trial. */
  threads: number;
  /** In which trials run, but for their threads (default: this process's). */
  surroundings?: Environment;
}

/** Fills in the recipes of all trials. Throws UserError for one that cannot be. */
export function resolveSweep(sweep: Sweep, data: KeptDataOptions = {}): ResolvedSweep {
  const { base, variants, seeds } = sweep;
  const requests = seeds.flatMap(seed =>
    Object.entries(variants).map(([variant, changes]) => {
      const modelSettings = { ...base.modelSettings, ...changes.modelSettings };
      return { variant, seed, recipe: resolveRecipe({ ...base, ...changes, modelSettings, seed }) };
    }),
  );
  const largest = requests.flatMap(({ recipe }) => recipe.size).reduce((a, b) => Math.max(a, b));
  return { ...sweep, requests, dataOptions: withSide(data, largest) };
}

/**
 * Says which trials a sweep has on its dataset and which of them are done: those whose run folders are there, trained in an
 * environment that decides the same bytes. Trains and writes nothing. Throws UserError for what cannot begin.
 */
export function planSweep(
  { base, varied, asked = {}, requests, dataOptions }: ResolvedSweep,
  dataset: Dataset,
  { runs, threads, surroundings = environment() }: SweepSetting,
): SweepPlan {
  const plans = requests.map(({ recipe }) => planTraining(recipe, dataset));
  const budget = budgetDigest(plans[0], varied, base.modelSettings);
  const there = { ...surroundings, threads };
  const trials = requests.map(({ variant, seed }, i): SweepTrial => {
    const plan = plans[i];
    const { name, digest } = trialIdentity(plan, there);
    const run = findTrial(runs, name);
    const done = run?.status === 'done';
    if (done && run.record.trial !== digest)
      throw new UserError(
        `The run '${name}' bears the name of a trial and is another one: rename or remove ${run.folder}.`,
      );
    return {
      variant,
      seed,
      plan,
      name,
      digest,
      work: plan.totalSteps * plan.recipe.batch * plan.counts.macs,
      state: done ? 'done' : 'waiting',
      known: done,
      ...(done && { row: trialRow(run, plan, { variant, budget, asked }), took: duration(run) }),
    };
  });
  return { threads, runs, dataOptions, budget, asked, trials };
}

/** How long a run took; undefined for one that was interrupted on its way. */
function duration({ record: { started, ended, resumedAt } }: Run): number | undefined {
  return ended === null || resumedAt.length > 0 ? undefined : Date.parse(ended) - Date.parse(started);
}

export interface SweepOptions {
  /** Where trials are trained. */
  backend: Backend;
  /** Done trials of other sweeps and machines; those of this one are added. */
  cache?: ResultsCache;
  /** Ends the sweep: the backend says what becomes of trials under way. */
  signal: AbortSignal;
  /** Called after each change of a trial's state. */
  onChange(trial: SweepTrial): void;
}

/**
 * Has trained what is not done, each trial in a process of its own that writes its run folder: the folders are all that is known of a sweep, so
 * that one which ends in any way resumes where it was. A trial that fails is told, and the rest continues. Resolves when all are done or failed, or
 * the signal ended it.
 */
export async function runSweep(plan: SweepPlan, { backend, cache, signal, onChange }: SweepOptions): Promise<void> {
  if (cache) await takeCached(plan, cache, onChange);
  const kept: Promise<void>[] = [];
  const waiting = new Map(
    plan.trials.filter(({ state }) => state === 'waiting').map(trial => [writeTrial(plan, trial), trial]),
  );
  const change = (task: Task, changes: Partial<SweepTrial>): void =>
    onChange(Object.assign(waiting.get(task)!, changes));
  await backend.run(
    [...waiting.keys()],
    {
      began: task => {
        if (waiting.get(task)!.state === 'waiting') change(task, { state: 'running', began: performance.now() });
      },
      noted: (task, note, step) => void Object.assign(waiting.get(task)!, { note, step }),
      ended: (task, obstacle) => {
        change(task, outcome(plan, waiting.get(task)!, obstacle, signal));
        if (cache && waiting.get(task)!.state === 'done') kept.push(cache.put(findTrial(plan.runs, task.name)!));
      },
    },
    signal,
  );
  await Promise.all(kept);
}

async function takeCached(plan: SweepPlan, cache: ResultsCache, onChange: SweepOptions['onChange']): Promise<void> {
  const { runs, dataOptions, budget, asked } = plan;
  for (const trial of plan.trials.filter(({ state }) => state === 'waiting')) {
    if (!(await cache.take({ ...trial, dataOptions }, runs))) continue;
    const row = trialRow(findTrial(runs, trial.name)!, trial.plan, { variant: trial.variant, budget, asked });
    onChange(Object.assign(trial, { state: 'done', known: true, row }));
  }
}

/** The tasks that a sweep would hand over now. */
export function tasksOf({ runs, trials }: SweepPlan): Task[] {
  return trials.filter(({ state }) => state !== 'done').map(({ name }) => ({ name, file: trialPath(runs, name) }));
}

const trialPath = (runs: string, name: string): string => join(runs, 'trials', `${name}.json`);

/** Writes a trial's file. */
function writeTrial({ runs, threads, dataOptions }: SweepPlan, { name, plan: { recipe } }: SweepTrial): Task {
  const file = trialPath(runs, name);
  writeFileAtomic(file, `${JSON.stringify({ name, threads, dataOptions, recipe } satisfies TrialFile, null, 2)}\n`);
  return { name, file };
}

/** What came of a trial whose process is gone, by its run folder. */
function outcome(
  { runs, budget, asked }: SweepPlan,
  { name, variant, plan, began }: SweepTrial,
  obstacle: string,
  signal: AbortSignal,
): Partial<SweepTrial> {
  const run = findTrial(runs, name);
  if (run?.status === 'done')
    return {
      state: 'done',
      ...(began !== undefined && { took: performance.now() - began }),
      row: trialRow(run, plan, { variant, budget, asked }),
    };
  if (signal.aborted) return { state: 'waiting' };
  return { state: 'failed', error: run?.status === 'failed' ? (run.record.error ?? obstacle) : obstacle };
}

/** Steps done of a trial under way, by its run folder. */
export function stepsDone({ runs }: SweepPlan, { name, step }: SweepTrial): number {
  const rows = findTrial(runs, name)?.metrics() ?? [];
  return rows.at(-1)?.step ?? step ?? 0;
}
