import { Failure, UserError } from '../util/errors';
import { execute } from '../util/processes';
import { arrayPrefix, type ScriptOptions, trialsOf } from './slurmScript';

/*
 * What Slurm is asked by its own programs, and how its answers are read.
 */

/** A task in the queue. */
export interface Queued {
  /** `ARRAY_INDEX`, as scancel takes it. */
  id: string;
  state: string;
  /** The node, or in brackets why it waits. */
  reason: string;
}

/** This user's tasks of the experiment's arrays by the names of their trials. */
export async function queue({ name, runs }: ScriptOptions): Promise<Map<string, Queued>> {
  const lines = (await slurm('squeue', '--me', '--noheader', '--array', '--format=%j %F %K %T %R')).trim().split('\n');
  const entries = lines.flatMap((line): [string, Queued][] => {
    const [job, array, index, state, ...reason] = line.split(' ');
    const trial = job.startsWith(arrayPrefix(name)) ? trialsOf(runs, job)[Number(index)] : undefined;
    return trial === undefined ? [] : [[trial, { id: `${array}_${index}`, state, reason: reason.join(' ') }]];
  });
  const rank = ([, { state }]: (typeof entries)[number]): number => (state === 'COMPLETING' ? 0 : 1);
  return new Map(entries.sort((a, b) => rank(a) - rank(b))); // of two tasks of a trial, the one that is not
}

/** How Slurm says that a task which left the queue ended, by its accounting where that is on. Undefined where it knows of none: a controller that crashes may forget what it was just given. */
export async function lastState(id: string): Promise<string | undefined> {
  const accounted = /^\w+/.exec(await slurm('sacct', '-nXPj', id, '-o', 'State').catch(() => ''))?.[0];
  if (accounted !== undefined) return accounted;
  const { code, output } = await execute('scontrol', ['show', 'job', id]);
  if (code === 0) return /JobState=(\w+)/.exec(output)?.[1] ?? 'ENDED';
  if (output.includes('Invalid job id')) return undefined;
  throw new SlurmError('scontrol', output);
}

/** What a program of Slurm answers where it can't do what it is asked, or can't reach its controller. */
export class SlurmError extends Failure {
  constructor(program: string, output: string) {
    super(`${program} failed: ${output.trim().split('\n').at(-1)}`);
  }
}

/** What a program of Slurm prints. Throws UserError where there is none, SlurmError where it fails. */
export async function slurm(program: string, ...args: string[]): Promise<string> {
  const { code, missing, output } = await execute(program, args);
  if (missing) throw new UserError(`--on=slurm needs Slurm's ${program}, which is not installed here.`);
  if (code !== 0) throw new SlurmError(program, output);
  return output;
}
