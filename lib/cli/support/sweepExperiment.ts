import { openDataset } from '../../data/open';
import { openEngine } from '../../engine/open';
import { parseSettings } from '../../model/config';
import type { ReportedExperiment } from '../../report/experiment';
import { writeReport } from '../../report/runReport';
import { INTERVALS, variantTable } from '../../report/sections';
import { makeBundle } from '../../runs/bundle';
import { here } from '../../runs/console';
import { environmentDifferences, FIELDS } from '../../runs/environment';
import { packExperiment } from '../../runs/experimentBundle';
import { absoluteData } from '../../runs/portable';
import { firstSeeds } from '../../runs/seeds';
import { openRun, RUNS } from '../../runs/store';
import { planSweep, resolveSweep, runSweep, type Sweep, type SweepPlan, tasksOf } from '../../runs/sweep';
import { outcome, sweepDisplay } from '../../runs/sweepConsole';
import {
  byVariant,
  formatResults,
  isReproducible,
  putResults,
  readResults,
  resultsFile,
  type TrialResult,
} from '../../runs/trialResults';
import { applySettings } from '../../train/recipe';
import { UserError } from '../../util/errors';
import { writeFileAtomic } from '../../util/files';
import { processors } from '../../util/processors';
import { allowedNames } from '../../util/suggest';
import { textTable, thousands } from '../../util/tables';
import { counted } from '../../util/text';
import { checkBackendFlags, openBackend, openCache } from './backends';
import type { Experiment, ExperimentFlags } from './experiments';
import { checkJobs } from './jobs';
import { interruption } from './training';

/** Name, which begins the file of results; title, baseline and charts are the report's. One without charts is not in it. */
interface Definition
  extends Omit<Experiment, 'takes' | 'run' | 'reported'>,
    Pick<Sweep, 'base' | 'variants'>,
    Omit<ReportedExperiment, 'charts'>,
    Partial<Pick<ReportedExperiment, 'charts'>> {
  /** How many, from 0 (default 3). */
  seeds?: number;
  /** Printed first. */
  preface?(): string;
}

/** An experiment that trains variants of a recipe: a line for each trial, and a table at the end. */
export function sweepExperiment({ base, variants, seeds: usual = 3, preface, ...about }: Definition): Experiment {
  const { name, question, cost, promise, title, baseline, baselineName, order, color, charts, captions } = about;
  return {
    question,
    cost,
    promise,
    reported: charts && { name, title, baseline, baselineName, order, color, charts, captions },
    takes: [
      ...[
        'data',
        'seeds',
        'epochs',
        'size',
        'only',
        'set',
        'jobs',
        'threads',
        'retries',
        'runs',
        'save',
        'bundle',
        'dryRun',
      ],
      ...['on', 'partition', 'time', 'arrayLimit', 'redis', 'cancel', 'cache'],
    ] as (keyof ExperimentFlags)[],
    async run(flags) {
      checkBackendFlags(flags);
      const {
        seeds = firstSeeds(usual),
        only,
        data,
        size,
        epochs,
        set = [],
        jobs = 1,
        threads = sharedThreads(jobs),
        retries: _retries,
        runs = RUNS,
        save = false,
        bundle,
        dryRun = false,
        cancel = false,
        cache,
        on = 'local',
        partition: _partition,
        time: _time,
        arrayLimit: _arrayLimit,
        redis: _redis,
        ...dataOptions
      } = flags;
      checkJobs(jobs);
      const settings = { ...parseSettings(set), ...given({ data: data && absoluteData(data), size, epochs }) };
      checkSettings(name, variants, settings);
      const { data: _, ...asked } = settings;
      const request: Sweep = {
        base: applySettings(base, settings),
        asked,
        variants: chosen(name, variants, only),
        seeds,
        varied: variedKeys(variants),
      };
      // For the preface, before several trials set it up at once, and because what is done already depends on the engine.
      await openEngine({ announce: true });
      const sweep = resolveSweep(request, dataOptions);
      const dataset = await openDataset(sweep.base.data, sweep.dataOptions);
      const plan = planSweep(sweep, dataset, { runs, threads });
      const backend = await openBackend(name, plan, dataset.fingerprint, flags, jobs);
      const { trials } = plan;
      if (preface) console.log(`${preface()}\n`);
      console.log(`${dataset.name}: ${dataset.description}`);
      console.log(
        `${counted(trials.length, 'trial')}, ${counted(Object.keys(sweep.variants).length, 'variant')} × ${counted(seeds.length, 'seed')} | ${trials.filter(({ known }) => known).length} done before | ${backend.description}, ${counted(threads, 'thread')} each`,
      );
      if (dryRun) {
        console.log(`\n${formatTrials(plan)}`);
        const tasks = tasksOf(plan);
        if (backend.preview && tasks.length > 0) console.log(`\n${backend.preview(tasks)}`);
        return;
      }
      if (cancel) {
        console.log(await backend.cancel!(tasksOf(plan)));
        return;
      }
      const published = readResults(resultsFile(name, dataset.name));
      const file = resultsFile(name, dataset.name, save ? undefined : runs);
      const signal = interruption();
      const display = sweepDisplay(plan, backend.jobs);
      const tell = (trial: (typeof trials)[number]): void => {
        putResults(
          file,
          trials.flatMap(({ row }) => row ?? []),
        ); // in the experiment's order, whichever came first
        display.trial(trial);
      };
      trials.filter(({ known }) => known).forEach(tell);
      try {
        await runSweep(plan, {
          backend,
          cache: cache === undefined ? undefined : openCache(cache),
          signal,
          onChange: tell,
        });
      } finally {
        display.end();
      }
      if (signal.aborted) {
        if (on !== 'local') console.log(formatTrials(plan));
        console.log(backend.farewell());
        process.exitCode = 130;
        return;
      }
      console.log(
        `\n${formatVariants(
          trials.flatMap(({ row }) => row ?? []),
          about,
          published,
        )}`,
      );
      const failed = trials.filter(({ state }) => state === 'failed');
      for (const trial of failed) console.log(`\n${trial.variant} seed ${trial.seed} ${outcome(trial)}`);
      if (failed.length > 0) process.exitCode = 1;
      if (bundle !== undefined && failed.length === 0) await packAll(bundle, plan);
      if (save && trials.some(({ row }) => row && !isReproducible(row)))
        console.log(
          '\nThe code that trained these rows is in no commit, so that nobody else can train them again and charts draw them hollow: commit it, remove the run folders and run the command again.',
        );
      console.log(
        `\nrows         ${here(file)}${save ? '' : ' (--save publishes them in experiments/results)'}\nrun folders  ${here(runs)}`,
      );
    },
  };
}

/** Writes the bundles of all trials and their rows into one file. */
async function packAll(file: string, { trials, runs }: SweepPlan): Promise<void> {
  const bundles = new Map<string, Buffer>();
  for (const { name } of trials) bundles.set(name, await makeBundle(openRun(runs, name), writeReport));
  const rows = formatResults(trials.flatMap(({ row }) => row ?? []));
  writeFileAtomic(file, await packExperiment(bundles, rows));
  console.log(
    `\n${here(file)} | ${counted(trials.length, 'run')} | replay all of them with: npm run replay -- ${here(file)}`,
  );
}

/** The machine's threads, shared out. */
const sharedThreads = (jobs: number): number => Math.max(1, Math.floor(processors() / jobs));

/** As settings, without those that have no value. */
function given(flags: Pick<ExperimentFlags, 'data' | 'size' | 'epochs'>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(flags).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]])),
  );
}

/** Keys of the recipe and of the model that some variant changes. */
function variedKeys(variants: Sweep['variants']): string[] {
  return [
    ...new Set(
      Object.values(variants).flatMap(({ modelSettings = {}, ...own }) => [
        ...Object.keys(own),
        ...Object.keys(modelSettings),
      ]),
    ),
  ];
}

/** Throws UserError for settings that the experiment itself makes. */
function checkSettings(name: string, variants: Sweep['variants'], settings: Record<string, string>): void {
  const own = ['seed', ...variedKeys(variants)].find(key => Object.hasOwn(settings, key));
  if (own !== undefined)
    throw new UserError(`${name} sets ${own} itself, so that it cannot be '${settings[own]}' for all.`);
}

/** The variants that `--only` names, in the experiment's order. */
function chosen(name: string, variants: Sweep['variants'], only?: readonly string[]): Sweep['variants'] {
  const unknown = only?.find(variant => !Object.hasOwn(variants, variant));
  if (unknown !== undefined)
    throw new UserError(`${name} has no variant '${unknown}': ${allowedNames(unknown, Object.keys(variants))}`);
  return Object.fromEntries(
    Object.entries(variants).filter(([variant]) => only === undefined || only.includes(variant)),
  );
}

function formatTrials({ trials }: SweepPlan): string {
  const rows = trials.map(({ variant, seed, plan, work, state, note, name }) => ({
    variant,
    seed: String(seed),
    steps: thousands(plan.totalSteps),
    work: `${(work / 1e12).toFixed(2)} T`,
    state: state === 'done' ? 'done' : (note ?? (state === 'waiting' ? 'to do' : state)),
    name,
  }));
  return textTable(
    { variant: 'variant', seed: 'seed', steps: 'steps', work: 'MACs forward', state: 'state', name: 'run folder' },
    rows,
  );
}

function formatVariants(
  rows: readonly TrialResult[],
  { baseline, baselineName }: Pick<Definition, 'baseline' | 'baselineName'>,
  published: readonly TrialResult[],
): string {
  if (rows.length === 0) return 'No trial came to its end.';
  const variants = byVariant(rows, baseline);
  const { columns, rows: cells } = variantTable(
    variants,
    baselineName ?? (typeof baseline === 'string' ? baseline : 'its baseline'),
  );
  const table = cells.map((row, i) => ({ ...row, published: asPublished(variants[i].runs, published) }));
  return `${textTable({ ...columns, published: 'weights as published' }, table)}\n\n${INTERVALS}`;
}

/** How many of the published rows of the same trials have the same weights, to the byte, and what can be the cause where they have not. */
export function asPublished(rows: readonly TrialResult[], published: readonly TrialResult[]): string {
  const pairs = rows.flatMap(row =>
    published.filter(({ trial }) => trial === row.trial).map(other => [row, other] as const),
  );
  if (pairs.length === 0) return '–';
  const differing = pairs.filter(([row, other]) => row.weights !== other.weights);
  const causes = new Set(differing.flatMap(([row, other]) => causesOf(row, other)));
  return `${pairs.length - differing.length} of ${pairs.length}${causes.size > 0 ? ` (other ${[...causes].join(', ')})` : ''}`;
}

/** What can decide a byte and is another for two rows; of those before numerics were counted no more is known than that. */
function causesOf(row: TrialResult, published: TrialResult): string[] {
  if (row.origin === null || published.origin === null) return [FIELDS.numerics.name];
  return environmentDifferences(published.origin.environment, row.origin.environment)
    .filter(({ decides }) => decides)
    .map(({ what }) => what);
}
