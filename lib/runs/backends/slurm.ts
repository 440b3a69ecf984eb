import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure, UserError } from '../../util/errors';
import { writeFileAtomic } from '../../util/files';
import { execute } from '../../util/processes';
import { counted } from '../../util/text';
import { arrayName, arrayPrefix, arrayScript, type ScriptOptions, scriptFile, trialsOf } from '../slurmScript';
import type { Backend, Task } from './backend';

export interface SlurmOptions extends ScriptOptions {
  pollMs?: number;
}

/** Clusters ask that squeue is called no more often than every few seconds. */
const POLL_MS = 5_000;

/** A task in the queue. */
interface Queued {
  /** `ARRAY_INDEX`, as scancel takes it. */
  id: string;
  state: string;
  /** The node, or in brackets why it waits. */
  reason: string;
}

/** Hands trials to Slurm as an array: it decides where and when. Nothing is kept but the script, by whose name squeue knows the array again. */
export function slurmBackend(options: SlurmOptions): Backend {
  const { runs, pollMs = POLL_MS } = options;
  let jobs: string[] = [];
  const submit = async (tasks: readonly Task[]): Promise<void> => {
    const file = scriptFile(runs, arrayName(options, names(tasks)));
    writeFileAtomic(file, arrayScript(options, names(tasks)));
    await slurm('sbatch', '--parsable', file);
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
      // What is cancelled stays in the queue until its processes are gone.
      const fresh = tasks.filter(({ name }) => (known.get(name)?.state ?? 'COMPLETING') === 'COMPLETING');
      if (fresh.length > 0) await submit(fresh);
      const open = new Set(tasks);
      const last = new Map(known);
      while (open.size > 0 && !signal.aborted) {
        // While the controller restarts, nothing is known and nothing has ended.
        const queued = await look().catch(() => undefined);
        for (const task of queued ? [...open] : []) {
          const entry = queued!.get(task.name);
          if (!entry) {
            open.delete(task);
            progress.ended(task, await obstacle(last.get(task.name)?.id, runs));
            continue;
          }
          last.set(task.name, entry);
          progress.noted(task, `${entry.state.toLowerCase()} ${entry.reason}`);
          if (entry.state === 'RUNNING') progress.began(task);
        }
        if (open.size > 0) await sleep(pollMs, undefined, { signal }).catch(() => {});
      }
    },
    farewell: () =>
      `Slurm keeps the jobs (${jobs.join(', ') || 'none'}). The same command shows how they stand; \`scancel ${jobs.join(' ')}\` ends them, each with a checkpoint.`,
    async cancel(tasks) {
      const queued = await look();
      const ids = tasks.flatMap(({ name }) => queued.get(name)?.id ?? []);
      if (ids.length > 0) await slurm('scancel', ...ids);
      return `${counted(ids.length, 'task')} cancelled.`;
    },
  };
}

const names = (tasks: readonly Task[]): string[] => tasks.map(({ name }) => name);

/** This user's tasks of the experiment's arrays by the names of their trials. */
async function queue({ name, runs }: SlurmOptions): Promise<Map<string, Queued>> {
  const lines = (await slurm('squeue', '--me', '--noheader', '--array', '--format=%j %F %K %T %R')).trim().split('\n');
  const entries = lines.flatMap((line): [string, Queued][] => {
    const [job, array, index, state, ...reason] = line.split(' ');
    const trial = job.startsWith(arrayPrefix(name)) ? trialsOf(runs, job)[Number(index)] : undefined;
    return trial === undefined ? [] : [[trial, { id: `${array}_${index}`, state, reason: reason.join(' ') }]];
  });
  const rank = ([, { state }]: (typeof entries)[number]): number => (state === 'COMPLETING' ? 0 : 1);
  return new Map(entries.sort((a, b) => rank(a) - rank(b))); // of two tasks of a trial, the one that is not
}

/** Why a task that left the queue did not come to its end: what Slurm says, by its accounting where that is on, and where its output is. */
async function obstacle(id: string | undefined, runs: string): Promise<string> {
  if (id === undefined) return 'Slurm let it go before it was seen in the queue';
  const accounted = await slurm('sacct', '-nXPj', id, '-o', 'State,ExitCode').catch(() => '');
  const remembered = accounted || (await slurm('scontrol', 'show', 'job', id).catch(() => ''));
  const state = /JobState=(\w+)/.exec(remembered)?.[1] ?? /^\w+/.exec(accounted)?.[0] ?? 'gone';
  const log = join(runs, 'trials', `slurm-${id}.log`);
  const said = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').at(-1) : undefined;
  return `${said ? `${said} ` : ''}(Slurm: job ${id} ${state.toLowerCase()}; ${log})`;
}

/** What a program of Slurm prints. Throws UserError where there is none, Failure where it fails. */
async function slurm(program: string, ...args: string[]): Promise<string> {
  const { code, missing, output } = await execute(program, args);
  if (missing) throw new UserError(`--on=slurm needs Slurm's ${program}, which is not installed here.`);
  if (code !== 0) throw new Failure(`${program} failed: ${output.trim().split('\n').at(-1)}`);
  return output;
}
