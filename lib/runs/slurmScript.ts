import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { quoted } from '../util/shell';

/** What a script says. */
export interface ScriptOptions {
  /** Of the experiment. */
  name: string;
  /** The folder of runs, which all nodes have at this path. */
  runs: string;
  /** Of each trial: its processors. */
  threads: number;
  /** The words that begin `npm run trial` without npm. */
  command: readonly string[];
  partition?: string;
  /** As sbatch takes it. */
  time?: string;
  /** Tasks of an array at once, at most. */
  arrayLimit?: number;
}

/** A task is warned so many seconds before its time is up: enough for a step and a checkpoint. Slurm may do so a minute earlier. */
const WARNING_S = 120;
/** With less, tasks would be warned before they trained anything, again and again. */
const SHORTEST_S = 300;

/** sbatch's `--time`. */
export const timeLimit = z
  .string()
  .refine(
    text => secondsOf(text) >= SHORTEST_S,
    `expected a time of at least ${SHORTEST_S / 60} minutes as sbatch takes it: MINUTES, HOURS:MINUTES:SECONDS, DAYS-HOURS or UNLIMITED`,
  );

/** `MINUTES[:SECONDS]`, `HOURS:MINUTES:SECONDS`, `DAYS-HOURS[:MINUTES[:SECONDS]]`, in seconds; NaN for anything else. */
function secondsOf(text: string): number {
  if (/^(unlimited|infinite)$/i.test(text)) return Number.POSITIVE_INFINITY;
  const match = /^(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$/.exec(text);
  if (!match) return Number.NaN;
  const [days, first, second, third] = match.slice(1).map(part => (part === undefined ? undefined : Number(part)));
  const [hours, minutes, seconds] =
    days !== undefined || third !== undefined ? [first, second, third] : [0, first, second];
  return ((24 * (days ?? 0) + hours!) * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0);
}

/** The beginning of the names of an experiment's arrays. */
export const arrayPrefix = (name: string): string => `edgevit-${name}-`;

/** Equal lists of trials in one folder of runs have one name. */
export function arrayName({ name, runs }: ScriptOptions, trials: readonly string[]): string {
  const digest = createHash('sha256').update(JSON.stringify([runs, trials]));
  return `${arrayPrefix(name)}${digest.digest('hex').slice(0, 12)}`;
}

/** The script of an array: Slurm copies it when it is submitted, and a person can read, alter and submit it. */
export function arrayScript(options: ScriptOptions, trials: readonly string[]): string {
  const { name, runs, threads, command, partition, time, arrayLimit } = options;
  return `#!/bin/bash
#SBATCH --job-name=${arrayName(options, trials)}
#SBATCH --array=0-${trials.length - 1}${arrayLimit === undefined ? '' : `%${arrayLimit}`}
#SBATCH --nodes=1 --ntasks=1 --cpus-per-task=${threads}${partition === undefined ? '' : `\n#SBATCH --partition=${quoted(partition)}`}${time === undefined ? '' : `\n#SBATCH --time=${time}`}
#SBATCH --requeue --open-mode=append
#SBATCH --signal=B:USR1@${WARNING_S}
#SBATCH --chdir=${quoted(process.cwd())}
#SBATCH --output=${quoted(join(runs, 'trials', 'slurm-%A_%a.log'))}

# Trials of the experiment ${name}. Each trains into the run folder of its name; what is there already is resumed from its checkpoint.
trials=(
${trials.map(trial => `  ${trial}`).join('\n')}
)
${command.map(quoted).join(' ')} ${quoted(join(runs, 'trials'))}/"\${trials[$SLURM_ARRAY_TASK_ID]}.json" --runs ${quoted(runs)} &
trial=$!

# scancel and preemption end the trial with a checkpoint; whom Slurm preempts, or whose node fails, it puts back into the queue itself.
trap 'kill -TERM $trial' TERM
# The same where its time is nearly up, and then it asks for more.
trap 'more=1; kill -TERM $trial' USR1
while kill -0 $trial 2>/dev/null; do wait $trial; done # which a signal ends early
wait $trial
status=$?
if [[ $more && ($status == 130 || $status == 143) ]]; then # 143: it had not begun to listen to signals
  for i in {1..12}; do # a controller may be away for a moment
    scontrol requeue "\${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" && break
    sleep 5
  done
fi
exit $status
`;
}

/** Where the script of an array is kept. */
export function scriptFile(runs: string, array: string): string {
  return join(runs, 'trials', `${array}.sh`);
}

/** The trials of an array, by its script; none where there is no such script. */
export function trialsOf(runs: string, array: string): string[] {
  const file = scriptFile(runs, array);
  const list = existsSync(file) ? /^trials=\(\n(.*?)\n\)$/ms.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
  return list?.split('\n').map(line => line.trim()) ?? [];
}
