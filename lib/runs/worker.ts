import type { ChildProcess } from 'node:child_process';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Job, UnrecoverableError, WaitingError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { withSide } from '../data/cache/side';
import { Failure, UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { parseOptions } from '../util/options';
import { counted } from '../util/text';
import { trainHere } from './backends/local';
import { environment } from './environment';
import { findImages } from './images';
import { portableOptions } from './portable';
import {
  address,
  bundleKey,
  cancelKey,
  type Delivery,
  explained,
  folderId,
  jobSchema,
  KEPT_S,
  openRedis,
  PREFIX,
  queueName,
  type TrialJob,
} from './queue';
import { describeQueue } from './queueWorkers';
import type { KeptDataOptions, Run } from './store';
import { findTrial } from './trialFile';

export interface WorkerOptions {
  url: string;
  /** The folder of runs, whether the sweep has it too or not. */
  runs: string;
  /** Trials at once. */
  jobs: number;
  /** A folder with folders of images. */
  images?: string;
  data: KeptDataOptions;
  /** After so many seconds without a sign of this process its trials are given to others. */
  lock: number;
  /** Starts `npm run trial` on a file, with stderr to be read; what it prints is to be added to the log. */
  launch(file: string, log: string): ChildProcess;
  bundle(run: Run): Promise<Buffer>;
  /** Ends the trials under way, with a checkpoint, and gives them back. */
  signal: AbortSignal;
  say(line: string): void;
}

const LOOK_MS = 2_000;
/** At its end a worker tries so long to give trials back. Where Redis is away it can't: its locks run out, and others take them. */
const GIVE_BACK_MS = 5_000;
/** Of a trial whose process is killed: memory that ran out is no fault of its own. */
const RETRIES = 1;

/**
 * Trains what a queue has for machines like this one until the signal. Each trial is a process of its own, so that this one is free to say that it
 * lives. Throws UserError where it can't do what a trial needs, so that others can: the trial is given back.
 */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const { url, runs, jobs, lock, signal, say } = options;
  const redis = await openRedis(url, say);
  const own = environment();
  const name = queueName(own);
  try {
    await describeQueue(redis, own);
  } catch (error) {
    redis.disconnect();
    throw explained(error, address(url));
  }
  const stop = new AbortController();
  const underWay = new Set<Promise<unknown>>();
  let unfit: UserError | undefined;
  const end = (): void => stop.abort();
  signal.addEventListener('abort', end);
  if (signal.aborted) end();
  const giveBack = async (job: Job<TrialJob>, token: string, why?: UserError): Promise<never> => {
    unfit ??= why;
    if (why) end();
    await job.moveToWait(token);
    throw new WaitingError();
  };

  const train = async (job: Job<TrialJob>, token = ''): Promise<Delivery> => {
    const { trial, fingerprint, folder } = parseOptions(jobSchema, job.data, 'the job');
    if (stop.signal.aborted) return giveBack(job, token);
    const now = environment();
    if (now.code !== own.code || queueName(now) !== name)
      return giveBack(job, token, new UserError('The code changed since this worker began: start it again.'));
    const here = folder === folderId(runs);
    const dataOptions = { ...(here ? trial.dataOptions : portableOptions(trial.dataOptions)), ...options.data };
    const data = await findImages(
      trial.recipe.data,
      fingerprint,
      withSide(dataOptions, trial.recipe.size),
      options.images,
    );
    if (data === undefined)
      return giveBack(
        job,
        token,
        new UserError(
          `${trial.recipe.data} with the fingerprint ${fingerprint.slice(0, 12)} isn't here: --images=FOLDER names a folder of folders of images.`,
        ),
      );
    const file = join(runs, 'trials', `${trial.name}.json`);
    writeFileAtomic(file, `${JSON.stringify({ ...trial, dataOptions, recipe: { ...trial.recipe, data } }, null, 2)}\n`);
    const cancelled = new AbortController();
    const either = AbortSignal.any([stop.signal, cancelled.signal]);
    const look = setInterval(() => void tell(redis, job, runs, cancelled), LOOK_MS);
    say(`${trial.name} begins`);
    const work = async () => {
      const { obstacle } = await trainHere({ file }, RETRIES, options.launch, either).finally(() =>
        clearInterval(look),
      );
      const run = findTrial(runs, trial.name);
      return { obstacle, run, bundle: run?.status === 'done' && !here ? await options.bundle(run) : undefined };
    };
    const working = work();
    underWay.add(working);
    const { obstacle, run, bundle } = await working.finally(() => underWay.delete(working));
    if (run?.status === 'done') {
      say(`${trial.name} is done`);
      if (!bundle) return 'folder';
      await redis.set(bundleKey(trial.name), bundle, 'EX', KEPT_S);
      return 'bundle';
    }
    if (stop.signal.aborted) return giveBack(job, token);
    const why = cancelled.signal.aborted
      ? 'it was cancelled'
      : run?.status === 'failed'
        ? (run.record.error ?? obstacle)
        : obstacle;
    say(`${trial.name} failed: ${why}`);
    throw new UnrecoverableError(why);
  };

  const worker = new Worker<TrialJob, Delivery>(name, train, {
    connection: redis,
    prefix: PREFIX,
    concurrency: jobs,
    lockDuration: 1000 * lock,
    stalledInterval: 1000 * lock,
    maxStalledCount: Number.MAX_SAFE_INTEGER, // a worker that was killed is no fault of its trial
  });
  let refused: string | undefined;
  worker.on('error', error => {
    const failure = explained(error, address(url));
    if (!(failure instanceof Failure) || failure.message === refused) return; // a lost connection is told by `openRedis`
    say(failure.message);
    refused = failure.message;
  });
  say(`${counted(jobs, 'trial')} at once, of the queue ${name}`);
  await new Promise<void>(resolve => {
    stop.signal.addEventListener('abort', () => resolve());
    if (stop.signal.aborted) resolve();
  });
  await Promise.allSettled(underWay);
  await Promise.race([worker.close(), sleep(GIVE_BACK_MS)]);
  redis.disconnect();
  if (unfit) throw unfit;
}

/** Says how far a trial is, and hears whether it is to end. */
async function tell(redis: Redis, job: Job<TrialJob>, runs: string, cancelled: AbortController): Promise<void> {
  try {
    const step = findTrial(runs, job.id!)?.metrics().at(-1)?.step ?? 0;
    await job.updateProgress({ worker: hostname(), step });
    if ((await redis.exists(cancelKey(job.id!))) > 0) cancelled.abort();
  } catch {
    // Another time.
  }
}
