import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Failure } from '../util/errors';
import { lastClaim } from './claim';
import type { Run, RunRecord } from './store';

/*
 * Whether a process of another machine is alive can't be asked. Whoever trains a trial therefore writes a file in its run folder again and again,
 * and a run whose owner was silent for long enough is resumed elsewhere. Nobody's clock is compared with another's: who waits sees changes.
 */

const FILE = '.alive';
const BEAT_MS = 5_000;
/** Longer than network file systems hold back what others wrote, which is 60 s. */
const SILENCE_MS = 120_000;

/** A step of a large network takes minutes, in which the main thread does nothing else. */
const BEATING = `
const { writeFileSync } = require('node:fs');
const { workerData: { path, every } } = require('node:worker_threads');
let count = 0;
const beat = () => {
  try {
    writeFileSync(path, String(count++));
  } catch {} // no room, or no folder: training itself says so
};
beat();
setInterval(beat, every);
`;

/** Says that this process works on a run, until the returned function is called. */
export function beat({ folder }: Run): () => Promise<void> {
  const path = join(folder, FILE);
  const thread = new Worker(BEATING, { eval: true, execArgv: [], workerData: { path, every: BEAT_MS } });
  thread.unref();
  return async () => {
    await thread.terminate();
    rmSync(path, { force: true });
  };
}

/** What is asked again and again while a run is waited for: the number of its last claim once its owner was silent for long, undefined before. */
export function silenceOf(run: Run, limit = SILENCE_MS): () => number | undefined {
  let heard: string | undefined;
  let since = 0;
  return () => {
    run.reload();
    const { owner, resumedAt } = run.record;
    const claim = lastClaim(run);
    const sign = JSON.stringify([owner, resumedAt, claim, read(join(run.folder, FILE))]);
    const now = performance.now();
    if (sign !== heard) [heard, since] = [sign, now];
    return now - since >= limit ? claim : undefined;
  };
}

/** A process that another one took for gone, and that finds out when it is awake again. */
export class TakenOverError extends Failure {}

/** Throws TakenOverError where run.json names another process, so that no two write rows of one run. */
export function checkOwner({ folder, record }: Run): void {
  const { owner, resumedAt } = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8')) as RunRecord;
  if (JSON.stringify([owner, resumedAt]) === JSON.stringify([record.owner, record.resumedAt])) return;
  throw new TakenOverError(
    `The run '${record.name}' was resumed by process ${owner.pid} of ${owner.host}, because this one was not heard of for too long.`,
  );
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
