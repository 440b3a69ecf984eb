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

/** States that are final. A task in another one is missing from squeue for a moment only, as while a controller begins again. */
const ENDED = [
  ...['COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'DEADLINE', 'OUT_OF_MEMORY'],
  ...['NODE_FAIL', 'BOOT_FAIL', 'LAUNCH_FAILED', 'PREEMPTED', 'REVOKED'],
];

/**
 * How Slurm says that a task which is not in the queue ended: by its controller, or its accounting where that is on and remembers longer. Undefined
 * for one that hasn't; FORGOTTEN where it knows of none, as after a crash of the controller of what it was just given.
 */
export async function lastState(id: string): Promise<string | undefined> {
  const { code, output } = await execute('scontrol', ['show', 'job', id]);
  if (code !== 0) {
    if (!output.includes('Invalid job id')) throw new SlurmError('scontrol', output);
    return ended(await slurm('sacct', '-nXPj', id, '-o', 'State').catch(() => '')) ?? FORGOTTEN;
  }
  return ended(/JobState=(\w+)/.exec(output)?.[1] ?? '');
}

export const FORGOTTEN = 'FORGOTTEN';

/** The final state that an answer begins with, as in `CANCELLED by 0`. */
export function ended(answer: string): string | undefined {
  return ENDED.find(state => new RegExp(`^${state}\\b`, 'm').test(answer));
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
