import { availableParallelism } from 'node:os';
import { UserError } from './errors';
import { processors } from './processors';

/** Read by TensorFlow (inside an op, across ops) and by OpenMP when they make their threads, which is when the engine is loaded. */
export const THREAD_VARIABLES = ['TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS', 'OMP_NUM_THREADS'] as const;

/** Asked for each graph that is compiled. A quota that changes later changes none of TensorFlow's threads. */
let available: number | undefined;

/** Threads that TensorFlow may divide each operation among: TF_NUM_INTRAOP_THREADS where set, else one per processor that may be used. */
export function threadsPerOp(): number {
  const set = process.env.TF_NUM_INTRAOP_THREADS;
  if (set === undefined || set === '') {
    available ??= processors();
    return available;
  }
  const count = Number(set);
  if (Number.isInteger(count) && count > 0) return count;
  throw new UserError(`TF_NUM_INTRAOP_THREADS is '${set}': it should be an integer above 0.`);
}

/** Holds TensorFlow's own threads to a container's quota, before the engine is opened: it counts the affinity mask alone. */
export function limitThreads(): void {
  const count = processors();
  if (count >= availableParallelism()) return;
  for (const [name, value] of Object.entries(threadEnvironment(count))) process.env[name] ??= value;
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
