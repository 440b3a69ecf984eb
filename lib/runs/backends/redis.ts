import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Job } from 'bullmq';
import type { Redis } from 'ioredis';
import { writeFileAtomic } from '../../util/files';
import { counted } from '../../util/text';
import type { Environment } from '../environment';
import {
  address,
  bundleKey,
  cancelKey,
  type Delivery,
  folderId,
  inQueue,
  KEPT_S,
  type TrialJob,
  type TrialQueue,
} from '../queue';
import { withoutWorkers } from '../queueWorkers';
import { readTrialFile } from '../trialFile';
import type { Backend, Progress, Task } from './backend';

export interface RedisOptions {
  /** With the password, if there is one: it goes to Redis and nowhere else. */
  url: string;
  runs: string;
  /** That of this process, in which the trials were planned. */
  environment: Environment;
  /** Of the images. */
  fingerprint: string;
  /** Puts the bundle of a task into the folder of runs. Throws where it can't be believed. */
  receive(file: string, task: Task): Promise<void>;
  say(line: string): void;
  pollMs?: number;
}

const POLL_MS = 1_000;
/** How long after a wish to end a trial workers and sweeps may still hear of it. */
const CANCEL_S = 60;

/** Puts trials into a queue that workers anywhere take them from, and looks how they stand: all that is known is in Redis and in run folders. */
export function redisBackend({
  url,
  runs,
  environment,
  fingerprint,
  receive,
  say,
  pollMs = POLL_MS,
}: RedisOptions): Backend {
  const where = address(url);
  const connected = <T>(work: (queue: TrialQueue, redis: Redis) => Promise<T>): Promise<T> =>
    inQueue({ url, environment, say }, work);
  const submit = async (queue: TrialQueue, { name, file }: Task): Promise<void> => {
    const { recipe, dataOptions, threads } = readTrialFile(file);
    const data = { trial: { name, recipe, dataOptions, threads }, fingerprint, folder: folderId(runs) };
    const kept = { age: KEPT_S };
    await queue.add('trial', data, { jobId: name, removeOnComplete: kept, removeOnFail: kept });
  };

  /** Whether a job that is completed has its run folder here now; false for one to be done again, because what came of it was lost. */
  const collect = async (redis: Redis, job: Job<TrialJob, Delivery>, task: Task): Promise<boolean> => {
    if (job.data.folder === folderId(runs) && job.returnvalue === 'folder') return true;
    const bundle = await redis.getBuffer(bundleKey(task.name));
    if (!bundle) return false;
    const file = join(runs, 'trials', `${task.name}.zip`);
    try {
      writeFileAtomic(file, bundle);
      await receive(file, task);
    } finally {
      rmSync(file, { force: true });
    }
    return true;
  };

  /** Looks at a task once. True when it has ended. Jobs that Redis lost, as it may in a crash, are handed over again. */
  const look = async (queue: TrialQueue, redis: Redis, task: Task, progress: Progress): Promise<boolean> => {
    const job = await queue.getJob(task.name);
    const state = await job?.getState();
    if (!job || state === 'unknown') {
      const cancelled = (await redis.exists(cancelKey(task.name))) > 0;
      await job?.remove(); // whose name would else be taken
      await (cancelled ? progress.ended(task, 'it was cancelled') : submit(queue, task));
      return cancelled;
    }
    if (state === 'active') {
      const { worker, step } = job.progress as { worker?: string; step?: number };
      progress.began(task);
      progress.noted(task, `on ${worker ?? 'a worker'}`, step);
    }
    if (state !== 'completed' && state !== 'failed') return false;
    let obstacle: string | undefined = job.failedReason;
    if (state === 'completed')
      try {
        if (!(await collect(redis, job, task))) {
          await job.remove();
          return false;
        }
      } catch (error) {
        obstacle = (error as Error).message;
      }
    progress.ended(task, obstacle ?? `a worker says that it is done, but ${runs} has no run folder of it`);
    await job.remove();
    await redis.del(bundleKey(task.name));
    return true;
  };

  return {
    description: `by workers of Redis at ${where}`,
    run: (tasks, progress, signal) =>
      connected(async (queue, redis) => {
        const follow = async (): Promise<void> => {
          for (const { name } of tasks) {
            await redis.del(cancelKey(name));
            const job = await queue.getJob(name);
            if (await job?.isFailed()) await job!.remove(); // whoever asks again wants it tried again
          }
          const open = new Set(tasks);
          for (let told = new Set<string>(); open.size > 0 && !signal.aborted; ) {
            for (const task of open) if (await look(queue, redis, task, progress)) open.delete(task);
            const alone = open.size > 0 && (await queue.getWorkersCount()) === 0;
            const lines = alone ? await withoutWorkers(redis, where, environment) : [];
            for (const line of lines) if (!told.has(line)) say(line);
            told = new Set(lines);
            if (open.size > 0) await sleep(pollMs, undefined, { signal }).catch(() => {});
          }
        };
        // While Redis is out of reach, `follow` waits for it.
        if (!signal.aborted) await Promise.race([follow(), once(signal, 'abort')]);
      }),
    farewell: () =>
      `The jobs stay in Redis at ${where}, and workers continue. The same command shows how they stand; with --cancel it ends them, each with a checkpoint.`,
    cancel: tasks =>
      connected(async (queue, redis) => {
        let count = 0;
        for (const { name } of tasks) {
          const job = await queue.getJob(name);
          const state = await job?.getState();
          if (!job || state === 'completed') continue;
          if (state !== 'failed') count++;
          await redis.set(cancelKey(name), '', 'EX', CANCEL_S);
          if (state !== 'active') await job.remove();
        }
        return `${counted(count, 'job')} cancelled.`;
      }),
  };
}
