import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { z } from 'zod';
import type { DataOptions } from '../data/open';
import type { DetailedEvaluation, Evaluation, Predictions } from '../train/metrics';
import type { Recipe } from '../train/recipe';
import { UserError } from '../util/errors';
import { isTemporary, writeFileAtomic } from '../util/files';
import { isScratch, moveFolder, scratchFolder } from '../util/folders';
import { isGone, type Owner } from '../util/owner';
import { ROOT } from '../util/root';
import { printable } from '../util/text';
import type { Environment } from './environment';
import { type EpochRow, type MetricRow, parseMetrics } from './metrics';
import { evaluationSchema, predictionsSchema, recordSchema } from './schemas';

/** Where runs are kept unless told otherwise. */
export const RUNS = join(ROOT, 'experiments/runs');

export type KeptDataOptions = Pick<DataOptions, 'flowers102Dir' | 'cacheDir' | 'side' | 'decode' | 'strict'>;

export type RunStatus = 'running' | 'done' | 'failed' | 'interrupted';

/** What a run's environment was, whole, or as much as format 1 tells of it. */
export type RecordedEnvironment = Partial<Environment> &
  Pick<
    Environment,
    'lab' | 'node' | 'platform' | 'cpu' | 'cores' | 'threads' | 'engine' | 'tfjs' | 'git' | 'lockfile' | 'code'
  >;

/** run.json: all that says what a run is, and how it went. */
export interface RunRecord {
  /** Of its format. */
  version: number;
  name: string;
  status: RunStatus;
  /** Digest of all that decides its bytes, for a trial of a sweep, which keeps its last weights alone; null for other runs. */
  trial: string | null;
  /** The named recipe that it began from. */
  recipeName: string;
  recipe: Recipe;
  /** Of the defaults that the recipe was filled in with. */
  recipeVersion: number;
  model: { name: string; config: object; outputs: number; params: number; macs: number };
  /** How the dataset was opened. */
  dataOptions: KeptDataOptions;
  dataset: {
    name: string;
    description: string;
    fingerprint: string;
    classes: readonly string[];
    train: number;
    test: number;
    val: number;
    skipped: number;
  };
  /** The file of weights that it began with, and its sha256; null for fresh ones. */
  init: { path: string; sha256: string } | null;
  environment: RecordedEnvironment;
  /** Where it went on by force in an environment that decides other bytes: after which step, and in which. */
  segments: { step: number; environment: Environment }[];
  started: string;
  ended: string | null;
  /** The process that works on it, or did. */
  owner: Owner;
  /** The step after which each later session resumed. */
  resumedAt: number[];
  result: RunResult | null;
  /** sha256 of the checkpoints that there are, and of a done run's metrics, evaluation and predictions, by file name. */
  files: Record<string, string>;
  /** Why it failed. */
  error: string | null;
}

export interface RunResult {
  /** On the test images, by the weights of the last epoch. */
  top1: number;
  top5: number;
  /** In nats; null where it was not finite, as in runs of format 1 it may be. */
  loss: number | null;
  /** The epoch of the highest top-1 on the images that each epoch ends with, and that top-1. */
  best: { epoch: number; top1: number };
  /** Of training alone, the median of the epochs. */
  imagesPerSecond: number | null;
  /** sha256 of the last weights: equal for equal runs. */
  weights: string;
}

const METRICS = 'metrics.jsonl';
const EVALUATION = 'evaluation.json';
const PREDICTIONS = 'predictions.json';

/** A run's folder: the interface between what trains and what reports. */
export class Run {
  constructor(
    readonly folder: string,
    public record: RunRecord,
  ) {}

  get lastCheckpoint(): string {
    return join(this.folder, 'checkpoint-last.safetensors');
  }

  get bestCheckpoint(): string {
    return join(this.folder, 'checkpoint-best.safetensors');
  }

  /** Changes run.json, whole or not at all. */
  update(changes: Partial<RunRecord>): void {
    this.record = { ...this.record, ...changes };
    writeFileAtomic(join(this.folder, 'run.json'), `${JSON.stringify(this.record, null, 2)}\n`);
  }

  /** Reads what other processes changed. */
  reload(): void {
    this.record = readRecord(this.folder);
  }

  append(row: MetricRow): void {
    appendFileSync(join(this.folder, METRICS), `${JSON.stringify(row)}\n`);
  }

  /** All rows. A last line that a crash cut short is left out. Throws UserError for a line that is none. */
  metrics(): MetricRow[] {
    const path = join(this.folder, METRICS);
    if (!existsSync(path)) return [];
    return parseMetrics(readFileSync(path), (line, why) => {
      throw new UserError(`Line ${line} of '${printable(path)}' is not what it should be: ${printable(why)}.`);
    });
  }

  epochs(): EpochRow[] {
    return this.metrics().filter((row): row is EpochRow => row.kind === 'epoch');
  }

  /** Forgets the rows after a checkpoint, which the run resumes from and writes again, and what a killed process left half-written. */
  rewind(step: number, epoch: number): void {
    for (const name of readdirSync(this.folder).filter(isTemporary)) rmSync(join(this.folder, name), { force: true });
    const kept = this.metrics().filter(row => (row.kind === 'step' ? row.step <= step : row.epoch <= epoch));
    writeFileAtomic(join(this.folder, METRICS), kept.map(row => `${JSON.stringify(row)}\n`).join(''));
  }

  /** evaluation.json, and predictions.json with probabilities of four digits. */
  saveEvaluation({ predictions, ...evaluation }: DetailedEvaluation): void {
    const probabilities = predictions.probabilities.map(row =>
      row.map(value => (value === null ? null : Number(value.toFixed(4)))),
    );
    writeFileAtomic(join(this.folder, EVALUATION), `${JSON.stringify(evaluation)}\n`);
    writeFileAtomic(join(this.folder, PREDICTIONS), `${JSON.stringify({ ...predictions, probabilities })}\n`);
  }

  /** The final evaluation; undefined before there is one. */
  evaluation(): Evaluation | undefined {
    return this.read(EVALUATION, evaluationSchema);
  }

  /** What it said of each test image in the end; undefined before that. */
  predictions(): Predictions | undefined {
    return this.read(PREDICTIONS, predictionsSchema);
  }

  private read<T extends z.ZodType>(name: string, schema: T): z.output<T> | undefined {
    const path = join(this.folder, name);
    return existsSync(path) ? parseJson(schema, readFileSync(path, 'utf8'), path) : undefined;
  }

  /** Writes down which checkpoints there are, to be called after each change of them; and of a run that ends, all that it came to. */
  recordFiles({ ended = false } = {}): void {
    const outcome = ended ? [METRICS, EVALUATION, PREDICTIONS].map(name => join(this.folder, name)) : [];
    const present = [this.lastCheckpoint, this.bestCheckpoint, ...outcome].filter(path => existsSync(path));
    this.update({ files: Object.fromEntries(present.map(path => [basename(path), sha256(path)])) });
  }

  /** Files that are not those that run.json names: altered, or written by a process that was killed before it could say so. */
  alteredFiles(): string[] {
    return Object.entries(this.record.files)
      .filter(([name, digest]) => {
        const path = join(this.folder, name);
        return !existsSync(path) || sha256(path) !== digest;
      })
      .map(([name]) => name);
  }

  /** What run.json says, or `interrupted` where it says `running` and the process is gone. */
  get status(): RunStatus {
    const { status, owner } = this.record;
    return status === 'running' && isGone(owner) ? 'interrupted' : status;
  }
}

/** Makes a run's folder, run.json in it from the first moment. A given name must be new; a suggested one gets a number where it is taken. */
export function createRun(
  runs: string,
  name: { given: string } | { suggested: string },
  record: Omit<RunRecord, 'name'>,
): Run {
  const temporary = scratchFolder(runs);
  try {
    const chosen =
      'given' in name
        ? takeName(runs, name.given, temporary, record)
        : suggestName(runs, name.suggested, temporary, record);
    return new Run(join(runs, chosen), { name: chosen, ...record });
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** A name that a run has already. */
export class TakenError extends UserError {
  constructor(name: string) {
    super(`There is a run named '${name}': choose another name, or resume it with --resume=${name}.`);
  }
}

function takeName(runs: string, name: string, temporary: string, record: Omit<RunRecord, 'name'>): string {
  if (!/^[\w.-]+$/.test(name) || /^\.+$/.test(name))
    throw new UserError(`A run cannot be named '${name}': allowed are letters, digits, '.', '_' and '-'.`);
  new Run(temporary, { name, ...record }).update({});
  if (!moveFolder(temporary, join(runs, name))) throw new TakenError(name);
  return name;
}

function suggestName(runs: string, base: string, temporary: string, record: Omit<RunRecord, 'name'>): string {
  for (let i = 1; ; i++) {
    try {
      return takeName(runs, i === 1 ? base : `${base}-${i}`, temporary, record);
    } catch (error) {
      if (!(error instanceof TakenError)) throw error;
    }
  }
}

/** A sentence that names all of a sweep's trials helps nobody. */
const NAMES_TOLD = 5;

/** A run by name or by its folder's path. Throws UserError where there is none. */
export function openRun(runs: string, nameOrPath: string): Run {
  const folder = [join(runs, nameOrPath), resolve(nameOrPath)].find(path => existsSync(join(path, 'run.json')));
  if (!folder) {
    const names = listRuns(runs).map(run => run.record.name);
    const some = [
      ...names.slice(0, NAMES_TOLD),
      ...(names.length > NAMES_TOLD ? [`${names.length - NAMES_TOLD} more`] : []),
    ].join(', ');
    throw new UserError(
      `There is no run '${nameOrPath}' in ${runs}: ${names.length > 0 ? `there are ${some}` : 'it holds none'}.`,
    );
  }
  return readRun(folder);
}

/** All runs, the latest first. Folders whose run.json can't be read are named to `skip`, or else left out. */
export function listRuns(runs: string, skip: (why: string) => void = () => {}): Run[] {
  if (!existsSync(runs)) return [];
  const folders = readdirSync(runs)
    .filter(name => !isScratch(name))
    .map(name => join(runs, name))
    .filter(folder => existsSync(join(folder, 'run.json')));
  return folders
    .flatMap(folder => {
      try {
        return [readRun(folder)];
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        skip(error.message);
        return [];
      }
    })
    .sort((a, b) => b.record.started.localeCompare(a.record.started));
}

function readRun(folder: string): Run {
  return new Run(folder, readRecord(folder));
}

function readRecord(folder: string): RunRecord {
  const path = join(folder, 'run.json');
  let json: string;
  try {
    json = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UserError(`'${path}' cannot be read: ${(error as Error).message}.`);
  }
  return parseJson(recordSchema, json, path);
}

/** JSON by its schema. Throws UserError, which names the file. */
function parseJson<T extends z.ZodType>(schema: T, json: string, path: string): z.output<T> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new UserError(`'${printable(path)}' cannot be read: ${printable((error as Error).message)}.`);
  }
  const { success, data, error } = schema.safeParse(value);
  if (success) return data;
  const [{ path: at, message }] = error.issues;
  throw new UserError(`'${printable(path)}' is not what it should be: ${printable([...at, message].join(': '))}.`);
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Where a run's learning curve and page are: drawn by whoever trains, so that this room needs no charts. */
export const reportFiles = (run: Run) => ({
  curve: join(run.folder, 'learning-curve.svg'),
  page: join(run.folder, 'report.html'),
});

/** Draws them (lib/report/runReport's `writeReport`). */
export type WriteReport = (run: Run) => Promise<void>;
