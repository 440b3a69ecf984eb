import { existsSync, readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { formatDataset, openDataset, parseDataset } from '../data/open';
import { planTraining, type TrainingPlan } from '../train/plan';
import { type RecipeOptions, resolveRecipe } from '../train/recipe';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { ROOT } from '../util/root';
import { counted } from '../util/text';
import { lastWeights, pagesOf } from './bundle';
import { type Bundle, PROJECT_FILES } from './bundleFile';
import { codeFiles } from './code';
import { type Circumstance, circumstances, type Difference, type Outcome, outcomeDifferences } from './differences';
import { environment } from './environment';
import type { KeptDataOptions, Run, RunRecord } from './store';
import { startTrial, type TrialOptions } from './trial';

export interface ReplayOptions extends TrialOptions {
  /** What `openDataset` takes, where it isn't what the bundle says: images lie elsewhere on each machine. */
  dataset?: string;
  /** How it is opened; what is not given is as the bundle says. */
  data?: KeptDataOptions;
  runs: string;
}

/** The rerun, and what of it is not as the bundle says. */
export interface Replay {
  run: Run;
  /** What came out: none where it is identical to the byte. Undefined when it was interrupted. */
  outcome: Difference[] | undefined;
  environment: Circumstance[];
  /** Names of its pages that say other than this checkout says of its files: drawn by another one, or altered. */
  otherPages: string[];
}

/**
 * Runs a bundle's recipe again, by this checkout's code, into a new run folder, and compares what comes out. Throws UserError where the
 * recipe can't be run here.
 */
export async function replay(bundle: Bundle, { dataset, runs, data, ...options }: ReplayOptions): Promise<Replay> {
  const { name, recipeName, dataOptions, init } = bundle.run;
  const plan = await planOf(bundle, dataset, { ...dataOptions, ...data });
  // Named by its content, so that it is there once and for all, also for a rerun that is interrupted and resumed.
  const initFile = init === null ? undefined : join(runs, `init-${init.sha256.slice(0, 16)}.safetensors`);
  if (initFile !== undefined) writeFileAtomic(initFile, bundle.init!);
  const run = await startTrial({
    ...options,
    plan,
    recipeName,
    runs,
    about: `the run '${name}' again`,
    name: freeName(runs, `${name}-replay`),
    init: initFile,
    data: { ...dataOptions, ...data },
  });
  const sources = new Map([...codeFiles(), ...PROJECT_FILES].map(path => [path, readFileSync(join(ROOT, path))]));
  const pages = await pagesOf(bundle.run, bundle.files, options.writeReport);
  return {
    run,
    otherPages: [...bundle.pages].filter(([name, bytes]) => !pages.get(name)?.equals(bytes)).map(([name]) => name),
    environment: circumstances(bundle, {
      environment: environment(),
      fingerprint: run.record.dataset.fingerprint,
      sources,
    }),
    outcome:
      run.record.status === 'done' ? outcomeDifferences({ ...bundle, ...told(bundle.run) }, outcomeOf(run)) : undefined,
  };
}

/** The plan of its recipe, checked as any that comes from outside, on images with as many classes as the run's. */
async function planOf({ run }: Bundle, given: string | undefined, options: KeptDataOptions): Promise<TrainingPlan> {
  const recipe = resolveRecipe(run.recipe as RecipeOptions);
  const { kind, path, options: own } = parseDataset(recipe.data);
  // A bundle names a folder inside the checkout, or none that is here; whoever wrote another is not told what is in it.
  const isHere = (path: string): boolean =>
    !isAbsolute(path) && !path.split(/[\\/]/).includes('..') && existsSync(path);
  if (given === undefined && kind === 'folder' && !isHere(path)) {
    throw new UserError(
      `The run '${run.name}' was trained on ${run.dataset.description}: say where these images are by --data=${formatDataset({ kind, path: 'PATH', options: own })}.`,
    );
  }
  const data = given ?? recipe.data;
  // Whoever was sent a bundle has not asked for a download, unless by --data.
  const opened = await openDataset(data, { ...options, mayDownload: given !== undefined });
  const { classes } = opened;
  if (recipe.outputs === null && classes.length !== run.model.outputs) {
    throw new UserError(
      `The data '${data}' has ${counted(classes.length, 'class', 'classes')}, but the run '${run.name}' was trained on ${run.model.outputs}.`,
    );
  }
  return planTraining({ ...recipe, data }, opened);
}

function freeName(runs: string, base: string): string {
  for (let i = 1; ; i++) {
    const name = i === 1 ? base : `${base}-${i}`;
    if (!existsSync(join(runs, name))) return name;
  }
}

function outcomeOf(run: Run): Outcome {
  return {
    metrics: run.metrics(),
    evaluation: run.evaluation()!,
    predictions: run.predictions()!,
    weights: lastWeights(run),
    ...told(run.record),
  };
}

function told({ result, model, dataset }: Pick<RunRecord, 'result' | 'model' | 'dataset'>) {
  return { result: result!, model, dataset };
}
