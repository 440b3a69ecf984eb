import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ReportedExperiment } from '../../report/experiment';
import type { KeptDataOptions } from '../../runs/store';
import { ROOT } from '../../util/root';

/** One question: its file says how it is asked, what the answer costs and what it promises. */
export interface Experiment {
  question: string;
  /** Time on 2 cores, and downloads. */
  cost: string;
  promise: string;
  /** What the report tells of it, where it has charts. */
  reported?: ReportedExperiment;
  /** The flags that mean something to it. */
  takes: readonly (keyof ExperimentFlags)[];
  run(flags: ExperimentFlags): Promise<void>;
}

/** What is not given is the experiment's own. */
export interface ExperimentFlags extends KeptDataOptions {
  data?: string;
  seeds?: readonly number[];
  epochs?: number;
  /** As text, a side in pixels or HEIGHTxWIDTH. */
  size?: string;
  only?: readonly string[];
  /** key=value */
  set?: readonly string[];
  jobs?: number;
  retries?: number;
  /** Where trials are trained (default: local). */
  on?: 'local' | 'slurm' | 'redis';
  /** Of Slurm, as sbatch takes them. */
  partition?: string;
  time?: string;
  /** Tasks of a Slurm array at once. */
  arrayLimit?: number;
  /** Its address, which may hold a password. */
  redis?: string;
  /** Ends what a scheduler has of the experiment. */
  cancel?: boolean;
  /** A folder of done trials. */
  cache?: string;
  threads?: number;
  runs?: string;
  save?: boolean;
  bundle?: string;
  dryRun?: boolean;
}

const FOLDER = join(ROOT, 'experiments');

/** All experiments by name: experiments/NAME.ts exports `experiment`. */
export async function loadExperiments(): Promise<Map<string, Experiment>> {
  const names = readdirSync(FOLDER)
    .filter(file => file.endsWith('.ts'))
    .map(file => basename(file, '.ts'))
    .sort();
  return new Map(await Promise.all(names.map(async name => [name, await loadExperiment(name)] as const)));
}

/** Those that the report tells. */
export async function reportedExperiments(): Promise<ReportedExperiment[]> {
  return [...(await loadExperiments()).values()].flatMap(({ reported }) => reported ?? []);
}

export async function loadExperiment(name: string): Promise<Experiment> {
  const { experiment } = (await import(join(FOLDER, `${name}.ts`))) as { experiment?: Experiment };
  if (!experiment)
    throw new Error(
      `experiments/${name}.ts must export \`experiment\`; what experiments have in common is in experiments/shared.`,
    );
  return experiment;
}
