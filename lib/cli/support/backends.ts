import { writeReport } from '../../report/runReport';
import type { Backend } from '../../runs/backends/backend';
import { localBackend } from '../../runs/backends/local';
import { slurmBackend } from '../../runs/backends/slurm';
import { makeBundle } from '../../runs/bundle';
import { environment } from '../../runs/environment';
import { type ResultsCache, receiveTrial, resultsCache } from '../../runs/received';
import type { SweepPlan } from '../../runs/sweep';
import { UserError } from '../../util/errors';
import type { ExperimentFlags } from './experiments';
import { startTrialProcess, trialCommand } from './trialProcess';

export const BACKENDS = ['local', 'slurm', 'redis'] as const;

/** Flags that mean something to one backend alone. */
const FLAGS: Readonly<Record<(typeof BACKENDS)[number], readonly Exclude<keyof ExperimentFlags, 'on'>[]>> = {
  local: ['jobs', 'retries'],
  slurm: ['partition', 'time', 'arrayLimit', 'cancel'],
  redis: ['redis', 'cancel'],
};

/** Throws UserError for a flag of another backend than that which was asked for. */
export function checkBackendFlags({ on = 'local', ...flags }: ExperimentFlags): void {
  for (const [other, names] of Object.entries(FLAGS)) {
    const foreign = names.find(name => flags[name] !== undefined && !FLAGS[on].includes(name));
    if (foreign !== undefined)
      throw new UserError(
        `--${foreign.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)} is of --on=${other} and means nothing to --on=${on}.`,
      );
  }
}

/** Where a sweep's trials are trained, as the command line says. */
export async function openBackend(
  name: string,
  plan: SweepPlan,
  fingerprint: string,
  flags: ExperimentFlags,
  jobs: number,
): Promise<Backend> {
  const { runs, threads, dataOptions } = plan;
  const { partition, time, arrayLimit } = flags;
  const say = (line: string): void => console.log(line);
  if (flags.on === 'slurm')
    return slurmBackend({ name, runs, threads, command: trialCommand(), partition, time, arrayLimit, say });
  if (flags.on !== 'redis')
    return localBackend({
      jobs,
      retries: flags.retries,
      launch: (file, log) => startTrialProcess(file, runs, log),
    });
  const [{ redisBackend }, { redisUrl }] = await Promise.all([
    import('../../runs/backends/redis'), // BullMQ takes its time to load
    import('./redisUrl'),
  ]);
  return redisBackend({
    url: redisUrl(flags.redis),
    runs,
    environment: environment(),
    fingerprint,
    say,
    receive: (file, task) =>
      receiveTrial(file, { ...plan.trials.find(trial => trial.name === task.name)!, dataOptions }, runs, writeReport),
  });
}

export function openCache(folder: string): ResultsCache {
  return resultsCache(folder, {
    bundle: run => makeBundle(run, writeReport),
    writeReport,
    say: line => console.log(line),
  });
}
