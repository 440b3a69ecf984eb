import { availableParallelism } from 'node:os';

/** Read by TensorFlow (inside an op, across ops) and by OpenMP when they make their threads, which is when the engine is loaded. */
export const THREAD_VARIABLES = ['TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS', 'OMP_NUM_THREADS'] as const;

/** Threads that TensorFlow may divide each operation among: TF_NUM_INTRAOP_THREADS where set, else one per core. */
export function threadsPerOp(): number {
  return Number(process.env.TF_NUM_INTRAOP_THREADS ?? availableParallelism());
}

/** The environment in which an engine takes so many threads for everything. */
export function threadEnvironment(threads: number): Record<(typeof THREAD_VARIABLES)[number], string> {
  return {
    TF_NUM_INTRAOP_THREADS: String(threads),
    TF_NUM_INTEROP_THREADS: String(threads),
    OMP_NUM_THREADS: String(threads),
  };
}

/** Sets them for this process, which has an effect before the engine is opened only. */
export function setThreads(threads: number): void {
  Object.assign(process.env, threadEnvironment(threads));
}
