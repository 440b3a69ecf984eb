import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { withSide } from '../data/cache/side';
import { openPlan } from '../train/plan';
import { DEFAULT_RECIPE, type Recipe, type RecipeOptions, resolveRecipe } from '../train/recipe';
import { UserError } from '../util/errors';
import { parseOptions } from '../util/options';
import { counted } from '../util/text';
import { threadsPerOp } from '../util/threads';
import { environment } from './environment';
import { silenceOf } from './heartbeat';
import { isNameOf, trialIdentity } from './identity';
import { dataOptionsSchema, runName } from './schemas';
import { type KeptDataOptions, openRun, type Run, TakenError } from './store';
import { BusyError, resumeTrial, startTrial, type TrialOptions } from './trial';

export const trialSchema = z.strictObject({
  /** Of the run folder, by whoever wrote the file: where images or environment here make it another trial, it is refused. */
  name: runName.optional(),
  recipe: z
    .custom<RecipeOptions>(value => typeof value === 'object' && value !== null, 'expected a recipe')
    .transform(options => resolveRecipe(options)),
  dataOptions: dataOptionsSchema.default({}),
  /** Threads that TensorFlow takes inside an op (default: TF_NUM_INTRAOP_THREADS, or one per core). */
  threads: z.number().int().positive().optional(),
});

/** A trial as one file: all that a process, here or on another machine, needs to write its run folder. */
export interface TrialFile {
  name?: string;
  recipe: Recipe;
  dataOptions: KeptDataOptions;
  threads?: number;
}

/** Throws UserError for a file that is not there or holds something else. */
export function readTrialFile(path: string): TrialFile {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UserError(`${path} holds no trial: ${(error as Error).message}.`);
  }
  return parseOptions(trialSchema, json, path);
}

/** A trial's run folder, where there is one: the folder bears its name. */
export function findTrial(runs: string, name: string): Run | undefined {
  const folder = join(runs, name);
  return existsSync(join(folder, 'run.json')) ? openRun(runs, folder) : undefined;
}

const WAIT_MS = 500;

/**
 * Trains a trial into the run folder of its name, unless that is done already: an interrupted one is resumed, and one that another
 * process works on is waited for, until that is done or gone. Throws UserError for what cannot begin, Failure for what ran off.
 */
export async function runTrial(
  { name, recipe, dataOptions, threads: wanted = threadsPerOp() }: TrialFile,
  runs: string,
  options: TrialOptions,
): Promise<Run> {
  if (wanted !== threadsPerOp())
    throw new UserError(
      `The trial takes ${counted(wanted, 'thread')}, but this process was started with ${threadsPerOp()}.`,
    );
  const data = withSide(dataOptions, recipe.size);
  const plan = await openPlan(recipe, data);
  const identity = trialIdentity(plan, environment());
  if (name !== undefined && !isNameOf(name, identity.digest)) {
    throw new UserError(
      `The trial '${name}' is '${identity.name}' here: its recipe, its images or the environment are others than where it was written.`,
    );
  }
  const own = name ?? identity.name;
  const signal = options.interruption?.();
  const training = { ...options, plan, interruption: signal && (() => signal) };
  const { reporter } = options;
  let waiting: { silence(): number | undefined } | undefined;
  while (true) {
    const run = findTrial(runs, own);
    if (run?.status === 'done') {
      reporter.say(`${run.record.name} is done already`);
      return run;
    }
    try {
      return await (run
        ? resumeTrial(run, { ...training, silent: waiting?.silence() })
        : startTrial({
            ...training,
            recipeName: DEFAULT_RECIPE,
            about: 'with the settings of a trial',
            runs,
            name: own,
            trial: identity.digest,
            data,
          }));
    } catch (error) {
      // Another process was faster to begin it, or has just ended it.
      if (error instanceof TakenError || findTrial(runs, own)?.status === 'done') continue;
      if (!(error instanceof BusyError)) throw error;
      if (signal?.aborted) return run!;
      if (!waiting) reporter.say(`${error.message} Waiting for it.`);
      waiting ??= { silence: silenceOf(run!) };
    }
    await sleep(WAIT_MS);
  }
}
