import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeFileAtomic } from '../../util/files';
import { counted } from '../../util/text';
import { FORGOTTEN, lastState, type Queued, queue, SlurmError, slurm } from '../slurmQueue';
import { arrayName, arrayScript, type ScriptOptions, scriptFile } from '../slurmScript';
import { findTrial } from '../trialFile';
import type { Backend, Task } from './backend';

export interface SlurmOptions extends ScriptOptions {
  say(line: string): void;
  pollMs?: number;
}

/** Clusters ask that squeue is called no more often than every few seconds. */
const POLL_MS = 5_000;

/** Hands trials to Slurm as an array: it decides where and when. Nothing is kept but the script, by whose name squeue knows the array again. */
export function slurmBackend(options: SlurmOptions): Backend {
  const { runs, say, pollMs = POLL_MS } = options;
  let jobs: string[] = [];
  /** The tasks by their names, as `ARRAY_INDEX`. */
  const submit = async (tasks: readonly Task[]): Promise<Map<string, string>> => {
    const file = scriptFile(runs, arrayName(options, names(tasks)));
    writeFileAtomic(file, arrayScript(options, names(tasks)));
    const [array] = /^\d+/m.exec(await slurm('sbatch', '--parsable', file))!; // beside warnings, and the cluster's name
    jobs = [...jobs, array];
    return new Map(tasks.map(({ name }, i) => [name, `${array}_${i}`]));
  };
  const look = async (): Promise<Map<string, Queued>> => {
    const queued = await queue(options);
    jobs = [...new Set([...queued.values()].map(({ id }) => id.split('_')[0]))];
    return queued;
  };
  return {
    description: `by Slurm${options.partition === undefined ? '' : `, partition ${options.partition}`}`,
    preview: tasks => arrayScript(options, names(tasks)),
    async run(tasks, progress, signal) {
      const known = await look();
      const held = new Set<Task>();
      const tell = (task: Task, { id, state, reason }: Queued): void => {
        progress.noted(task, `${state.toLowerCase()} ${reason}`);
        if (state === 'RUNNING') progress.began(task);
        if (!/held/i.test(reason)) held.delete(task);
        else if (!held.has(task)) {
          held.add(task);
          say(`Slurm holds the task ${id} ${reason} until somebody calls \`scontrol release ${id}\`.`);
        }
      };
      // What is cancelled stays in the queue until its processes are gone.
      const fresh = tasks.filter(({ name }) => (known.get(name)?.state ?? 'COMPLETING') === 'COMPLETING');
      const ids = new Map([...known].map(([name, { id }]) => [name, id]));
      const handOver = async (some: readonly Task[]): Promise<void> => {
        if (some.length > 0) for (const [name, id] of await submit(some)) ids.set(name, id);
      };
      await handOver(fresh);
      for (const task of tasks) if (!fresh.includes(task)) tell(task, known.get(task.name)!);
      const open = new Set(tasks);
      const again = new Set<Task>();
      for (let silent = false; open.size > 0 && !signal.aborted; ) {
        try {
          const queued = await look();
          const gone: Task[] = [];
          for (const task of open) {
            const entry = queued.get(task.name);
            if (!entry) gone.push(task);
            else {
              ids.set(task.name, entry.id);
              tell(task, entry);
            }
          }
          const lost: Task[] = [];
          for (const task of gone) {
            const id = ids.get(task.name)!;
            const state = await lastState(id);
            if (state === undefined) continue;
            if (state === FORGOTTEN && !again.has(task) && findTrial(runs, task.name)?.status !== 'done')
              lost.push(task);
            else {
              open.delete(task);
              progress.ended(task, obstacle(id, state, runs));
            }
          }
          for (const task of lost) again.add(task);
          await handOver(lost);
          silent = false;
        } catch (error) {
          if (!(error instanceof SlurmError)) throw error;
          // While the controller restarts, nothing is known and nothing has ended.
          if (!silent) say(`${error.message} Waiting for Slurm.`);
          silent = true;
        }
        if (open.size > 0) await sleep(pollMs, undefined, { signal }).catch(() => {});
      }
    },
    farewell: () =>
      `Slurm keeps the jobs (${jobs.join(', ') || 'none'}). The same command shows how they stand; with --cancel it ends them, as \`scancel ${jobs.join(' ') || 'JOB'}\` does, each with a checkpoint.`,
    async cancel(tasks) {
      const queued = await look();
      const ids = tasks.flatMap(({ name }) => queued.get(name)?.id ?? []);
      if (ids.length > 0) await slurm('scancel', ...ids);
      return `${counted(ids.length, 'task')} cancelled.`;
    },
  };
}

const names = (tasks: readonly Task[]): string[] => tasks.map(({ name }) => name);

/** Why a task did not come to its end: what it said last, what Slurm says, and where its output is. */
function obstacle(id: string, state: string, runs: string): string {
  const log = join(runs, 'trials', `slurm-${id}.log`);
  const said = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').at(-1) : undefined;
  return `${said ? `${said} ` : ''}(Slurm: job ${id} ${state.toLowerCase()}; ${log})`;
}
