import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { openDataset } from '../data/open';
import type { Model } from '../model/module';
import { holdsTraining, NotFiniteError } from '../train/checkpoint';
import { type InitialWeights, initialWeights } from '../train/initial';
import { planTraining, type TrainingPlan } from '../train/plan';
import { RECIPE_VERSION, RECIPES, type Recipe, remarks, resolveRecipe, settingsOf } from '../train/recipe';
import { createTrainer, DivergenceError, type TrainEvent, type Trainer } from '../train/trainer';
import { Failure, UserError } from '../util/errors';
import { noRoom } from '../util/files';
import { FORMAT_VERSION, otherFormat } from '../util/format';
import { isElsewhere, thisProcess } from '../util/owner';
import { thousands } from '../util/tables';
import { counted } from '../util/text';
import { claimRun, lastClaim } from './claim';
import { medianRate } from './consistency';
import { here, type Reporter } from './console';
import { type Environment, environment, environmentDifferences } from './environment';
import { beat, checkOwner, TakenOverError } from './heartbeat';
import { logged } from './log';
import type { MetricRow } from './metrics';
import { createRun, type KeptDataOptions, RUNS, type Run, type RunRecord, type WriteReport } from './store';

export interface TrialOptions {
  reporter: Reporter;
  /** Called when training begins. Its signal ends the run after the step under way, with a checkpoint. */
  interruption?: () => AbortSignal;
  /** Draws the run's page before the run counts as done. */
  writeReport: WriteReport;
}

export interface NewTrial extends TrialOptions {
  plan: TrainingPlan;
  /** How its dataset was opened. */
  data?: KeptDataOptions;
  /** The named recipe that it began from, and what is to be said of it. */
  recipeName: string;
  about: string;
  /** The folder of runs (default: experiments/runs). */
  runs?: string;
  /** The run's name; otherwise one is made of model, data, size and seed. */
  name?: string;
  /** A file of weights to begin with, of any kind that `importWeights` reads. */
  init?: string;
  /** Digest of a trial, whose name is made of it. */
  trial?: string;
}

/**
 * Trains as planned, into a new run folder. The run's status tells whether it was done or interrupted. Throws UserError for what
 * cannot begin, Failure for what ran off.
 */
export async function startTrial({
  plan,
  recipeName,
  about,
  runs = RUNS,
  name,
  init,
  trial,
  data = {},
  ...options
}: NewTrial): Promise<Run> {
  const { recipe, dataset, model } = plan;
  const { params, macs } = plan.counts;
  const weights = init === undefined ? undefined : await initialWeights(init, model, recipe.seed);
  const trainer = createTrainer(plan, { init: weights });
  const [height, width] = model.inputSize;
  const run = createRun(
    runs,
    name === undefined
      ? { suggested: `${model.name}-${dataset.name}-${height}-s${recipe.seed}`.replace(/[^\w.-]+/g, '-') }
      : { given: name },
    {
      version: FORMAT_VERSION,
      status: 'running',
      trial: trial ?? null,
      recipeName,
      recipe,
      recipeVersion: RECIPE_VERSION,
      model: { name: model.name, config: model.config, outputs: model.numClasses, params, macs },
      dataOptions: data,
      dataset: {
        name: dataset.name,
        description: dataset.description,
        fingerprint: dataset.fingerprint,
        classes: dataset.classes,
        train: dataset.train.length,
        test: dataset.test.length,
        val: dataset.val?.length ?? 0,
        skipped: dataset.skipped.length,
      },
      init:
        init === undefined
          ? null
          : { path: init, sha256: createHash('sha256').update(readFileSync(init)).digest('hex') },
      environment: environment(),
      segments: [],
      started: new Date().toISOString(),
      ended: null,
      owner: thisProcess(),
      resumedAt: [],
      result: null,
      files: {},
      error: null,
    },
  );
  const reporter = logged(options.reporter, run);
  reporter.say(`recipe ${recipeName}: ${about}${changes(recipe, recipeName)}`);
  reporter.say(
    `model ${model.name}${recipe.ablation === null ? '' : ` (${recipe.ablation})`} at ${height}×${width} | ${thousands(params)} params | ${(macs / 1e6).toFixed(1)} M MACs | ${init === undefined ? `seed ${recipe.seed}` : `weights of ${init}`}`,
  );
  reporter.say(`data ${dataset.name}: ${dataset.description}`);
  reporter.say(
    `steps ${plan.totalSteps} = ${counted(recipe.epochs, 'epoch')} × ${plan.stepsPerEpoch}, batch ${recipe.batch} | ${recipe.optimizer}, lr ${recipe.lr}, ${recipe.schedule}${recipe.warmupEpochs > 0 ? ` after ${counted(recipe.warmupEpochs, 'epoch')} of warm-up` : ''}`,
  );
  if (weights && weights.fresh.length > 0)
    reporter.say(
      `note: the weights are for another number of classes: ${weights.fresh.join(' and ')} were left, and are initialised by seed ${recipe.seed}`,
    );
  for (const remark of remarks(plan)) reporter.say(`note: ${remark}`);
  reporter.say(`run ${here(run.folder)}`);
  return drive(run, trainer, { ...options, reporter });
}

/** What of a recipe is not as the named one has it, whose description holds for the rest alone. */
function changes(recipe: Recipe, recipeName: string): string {
  if (!Object.hasOwn(RECIPES, recipeName)) return '';
  const settings = Object.entries(settingsOf(recipe, recipeName)).map(([key, value]) => `${key}=${value}`);
  return settings.length === 0 ? '' : ` | changed: ${settings.join(' ')}`;
}

/** A run that another process works on. */
export class BusyError extends UserError {}

export interface ResumeOptions extends TrialOptions {
  /** The run's plan where it is made already: a dataset's bytes are read and hashed once per trial. */
  plan?: TrainingPlan;
  /** How the dataset is opened where there is no plan yet; what is not given is as before. */
  data?: KeptDataOptions;
  /**
   * Resumes a run of another machine or container too, which is taken for gone, and in an environment that decides other bytes, and records where
   * it did: the latter never for a trial, whose name stands for one.
   */
  force?: boolean;
  /** The run's owner, of which nothing was heard for long, is taken for gone, and so are claims up to this number. */
  silent?: number;
}

/**
 * Resumes a run as if nothing had been. Throws UserError where it is done, its data changed, or the environment decides other bytes, BusyError
 * where it runs.
 */
export async function resumeTrial(run: Run, given: ResumeOptions): Promise<Run> {
  const options = { ...given, reporter: logged(given.reporter, run) };
  run.reload();
  const { name, owner, version, environment: before } = run.record;
  if (version !== FORMAT_VERSION) throw new UserError(otherFormat(`The run '${name}'`, version, before.lab, 'resumes'));
  if (run.status === 'done') throw new UserError(`The run '${name}' is already finished; there is nothing to resume.`);
  const unknown = run.status === 'running' && isElsewhere(owner);
  const silent = options.silent ?? (options.force && unknown ? lastClaim(run) : undefined);
  if (run.status === 'running' && silent === undefined) {
    const help = unknown ? ' Whether that machine or container is there cannot be seen here: --force resumes.' : '';
    throw new BusyError(`The run '${name}' is still running, as process ${owner.pid} of ${owner.host}.${help}`);
  }
  const endClaim = claimRun(run, silent);
  if (!endClaim) throw new BusyError(`Another process works on the run '${name}' at this moment.`);
  let trainer: Trainer;
  try {
    trainer = await takeUp(run, options);
  } finally {
    endClaim();
  }
  return drive(run, trainer, options);
}

/** Makes this process a run's owner, and prepares it to resume from its last checkpoint, or from the beginning where there is none. */
async function takeUp(run: Run, { reporter, data, plan: planned, force = false }: ResumeOptions): Promise<Trainer> {
  const { record } = run;
  const dataset = planned?.dataset ?? (await openDataset(record.recipe.data, { ...record.dataOptions, ...data }));
  checkData(run, dataset);
  // With the settings that came after it was written, at their defaults.
  const plan = planned ?? planTraining(resolveRecipe(record.recipe), dataset);
  const { model } = plan;
  // A trial that was killed at its very end may have its last weights alone: it begins again.
  const resume =
    existsSync(run.lastCheckpoint) && (record.trial === null || holdsTraining(run.lastCheckpoint))
      ? run.lastCheckpoint
      : undefined;
  const fresh = resume === undefined && record.trial === null; // then nothing of another environment is in it
  const changed = fresh ? undefined : changedEnvironment(record, force && record.trial === null);
  const init =
    resume === undefined && record.init !== null ? await initOf(record.init, model, plan.recipe.seed) : undefined;
  const trainer = createTrainer(plan, { init, resume });
  const { step, epoch } = trainer.progress;
  for (const name of run.alteredFiles())
    reporter.say(
      `${name} is not the file that run.json names: the run was killed after writing it, or it was altered.`,
    );
  run.rewind(step, epoch);
  run.update({
    status: 'running',
    owner: thisProcess(),
    ended: null,
    error: null,
    resumedAt: [...record.resumedAt, step],
    segments: changed ? [...record.segments, { step, environment: changed.environment }] : record.segments,
    ...(fresh && { environment: environment(), segments: [] }),
  });
  run.recordFiles(); // after the last epoch nothing else would
  if (changed) reporter.say(`By force, in another environment, so to other bytes: ${changed.how}.`);
  reporter.say(`run ${here(run.folder)} resumes after step ${step} of ${plan.totalSteps}`);
  return trainer;
}

function checkData(run: Run, dataset: TrainingPlan['dataset']): void {
  const { name, recipe, dataset: before } = run.record;
  if (dataset.fingerprint === before.fingerprint) return;
  throw new UserError(
    `The run '${name}' cannot be resumed: its data was ${before.description} (fingerprint ${before.fingerprint.slice(0, 12)}), but '${recipe.data}' now is ${dataset.description} (${dataset.fingerprint.slice(0, 12)}).`,
  );
}

/** This environment, and how it differs from the run's last one, where it decides other bytes. Throws UserError for one that isn't forced. */
function changedEnvironment(
  { name, trial, environment: first, segments }: RunRecord,
  forced: boolean,
): { environment: Environment; how: string } | undefined {
  const now = environment();
  const deciding = environmentDifferences(segments.at(-1)?.environment ?? first, now).filter(({ decides }) => decides);
  if (deciding.length === 0) return undefined;
  const how = deciding.map(difference => `${difference.what} ${difference.how}`).join('; ');
  if (!forced)
    throw new UserError(
      `The run '${name}' cannot resume to the same bytes: ${how}.${trial === null ? ' --force resumes all the same, and records from which step.' : ''}`,
    );
  return { environment: now, how };
}

async function initOf(
  { path, sha256 }: { path: string; sha256: string },
  model: Model,
  seed: number,
): Promise<InitialWeights> {
  const weights = await initialWeights(path, model, seed);
  if (createHash('sha256').update(readFileSync(path)).digest('hex') !== sha256)
    throw new UserError(`The weights '${path}' are not those that the run began with.`);
  return weights;
}

/** A checkpoint that took longer than the one isn't written again before the other has passed, but for better weights: a large network's takes seconds. */
const CHEAP_CHECKPOINT_MS = 200;
const CHECKPOINT_SPACING_MS = 60_000;

/** Trains, and keeps the folder true to what happens. A killed run loses what it did since its last checkpoint; an interrupted one nothing. */
async function drive(run: Run, trainer: Trainer, { reporter, interruption, writeReport }: TrialOptions): Promise<Run> {
  const signal = interruption?.();
  const {
    trial,
    recipe: { batch, epochs },
  } = run.record;
  const totals = { batch, epochs, stepsPerEpoch: trainer.plan.stepsPerEpoch, totalSteps: trainer.plan.totalSteps };
  let savedAt = existsSync(run.lastCheckpoint) ? trainer.progress.step : undefined;
  let due = 0;
  const endBeat = trial === null ? undefined : beat(run);
  const check = (): void => {
    if (trial !== null) checkOwner(run);
  };
  const save = (): void => {
    const began = performance.now();
    trainer.save(run.lastCheckpoint);
    run.recordFiles();
    savedAt = trainer.progress.step;
    const now = performance.now();
    due = now - began > CHEAP_CHECKPOINT_MS ? now + CHECKPOINT_SPACING_MS : 0;
  };
  try {
    for await (const event of trainer.events(signal)) {
      check();
      run.append(toRow(event));
      if (event.kind === 'step') reporter.step(event, totals);
      else {
        const best = event.best && trial === null;
        // The last checkpoint comes after all else that belongs to it, and always after the best weights: a run killed in between writes the rest again.
        if (best) trainer.saveWeights(run.bestCheckpoint);
        if (best || event.epoch === epochs || performance.now() >= due) save();
        reporter.epoch(event, totals);
      }
    }
    const evaluation = trainer.progress.epoch === epochs ? await trainer.test(signal) : undefined;
    check();
    if (!evaluation) {
      save();
      run.update({ status: 'interrupted', ended: new Date().toISOString() });
      return run;
    }
    const { top1, top5, loss } = evaluation;
    run.saveEvaluation(evaluation);
    run.update({
      ended: new Date().toISOString(),
      result: {
        top1,
        top5,
        loss,
        best: trainer.progress.best!,
        imagesPerSecond: medianRate(run.epochs()),
        weights: trainer.digest(),
      },
    });
    await writeReport(run);
    if (trial !== null) {
      trainer.saveWeights(run.lastCheckpoint); // a hundred trials fit on a disk, a hundred optimizers don't
    }
    run.recordFiles({ ended: true });
    run.update({ status: 'done' });
    return run;
  } catch (error) {
    if (error instanceof TakenOverError) throw error; // the folder is another's
    const failure = explain(error, run, trainer, savedAt);
    try {
      run.update({
        status: 'failed',
        ended: new Date().toISOString(),
        error: failure instanceof Error ? failure.message : String(failure),
      });
    } catch {
      // A full disk takes no status either: the run is found out as interrupted when its process is gone.
    }
    throw failure;
  } finally {
    reporter.end();
    await endBeat?.();
    trainer.dispose();
  }
}

function explain(error: unknown, run: Run, trainer: Trainer, savedAt: number | undefined): unknown {
  const checkpoint =
    savedAt === undefined
      ? 'There is no checkpoint yet.'
      : `The last good checkpoint is ${here(run.lastCheckpoint)}, after step ${savedAt}.`;
  if (error instanceof DivergenceError) return new Failure(`${error.message} ${checkpoint}`);
  if (error instanceof NotFiniteError)
    return new Failure(`Training diverged by step ${trainer.progress.step}: ${error.message}. ${checkpoint}`);
  const full = noRoom(error);
  return full === undefined
    ? error
    : new Failure(`${run.folder} takes nothing more: ${full}. ${checkpoint}`, { cause: error });
}

function toRow(event: TrainEvent): MetricRow {
  if (event.kind === 'step') return event;
  const { evaluation, best: _, ...row } = event;
  return { ...row, evalLoss: evaluation.loss, evalTop1: evaluation.top1, evalTop5: evaluation.top5 };
}
