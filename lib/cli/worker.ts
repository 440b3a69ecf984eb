import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { openEngine } from '../engine/open';
import { writeReport } from '../report/runReport';
import { makeBundle } from '../runs/bundle';
import { type KeptDataOptions, RUNS } from '../runs/store';
import { UserError } from '../util/errors';
import { wholeNumber, withDataOptions } from './support/dataOptions';
import { checkJobs } from './support/jobs';
import { redisUrl } from './support/redisUrl';
import { interruption } from './support/training';
import { startTrialProcess } from './support/trialProcess';

interface Flags extends KeptDataOptions {
  redis?: string;
  jobs: number;
  runs: string;
  images?: string;
  lock: number;
}

/** `npm run worker -- --redis=URL`: trains what `npm run experiment -- NAME --on=redis` has put into a queue, until Ctrl-C. */
export function register(program: Command): void {
  const command = program
    .command('worker')
    .description('train the trials that experiments with --on=redis have queued, until Ctrl-C')
    .option('--redis <url>', 'redis://[[USER]:PASSWORD@]HOST[:PORT] (default: REDIS_URL, or this machine)')
    .option('--jobs <n>', 'trials at once, each in a process of its own', wholeNumber, 1)
    .option(
      '--runs <folder>',
      'where runs are kept; on a disk in common with the experiment nothing is sent back',
      RUNS,
    )
    .option(
      '--images <folder>',
      'a folder of folders of images, among which those of a trial are found by their fingerprint',
    )
    .option('--lock <seconds>', 'after so long without a sign of this worker, others take its trials', wholeNumber, 30);
  withDataOptions(command).action(async ({ redis, jobs, runs, images, lock, ...data }: Flags) => {
    checkJobs(jobs);
    if (images !== undefined && !existsSync(images)) throw new UserError(`--images: there is no folder ${images}.`);
    const { runWorker } = await import('../runs/worker');
    await openEngine({ announce: true });
    await runWorker({
      url: redisUrl(redis),
      runs,
      jobs,
      images,
      data,
      lock,
      launch: (file, log) => startTrialProcess(file, runs, log),
      bundle: run => makeBundle(run, writeReport),
      signal: interruption(),
      say: line => console.log(line),
    }).finally(() => setTimeout(() => process.exit(), 1_000).unref()); // BullMQ has timers of its own where Redis is away
  });
}
