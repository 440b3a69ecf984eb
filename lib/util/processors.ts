import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

/** What a container's quota is read from, and how many processors the affinity mask leaves; other ones in tests. */
export interface Machine {
  root?: string;
  cores?: number;
}

/** Undefined where the file is missing or a sandbox forbids reading it: what nobody can read is no limit. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Processors' time that one cgroup folder grants per time; undefined where it sets no limit. */
function quotaOf(folder: string): number | undefined {
  const [quota, period] = (
    read(join(folder, 'cpu.max')) ??
    `${read(join(folder, 'cpu.cfs_quota_us'))} ${read(join(folder, 'cpu.cfs_period_us'))}`
  )
    .split(' ')
    .map(Number); // version 2's `max` and version 1's −1 are no limit
  return quota! > 0 && period! > 0 ? quota! / period! : undefined;
}

/** The tightest quota of the process's cgroup and those around it. */
function quota(root: string): number {
  const quotas: number[] = [];
  for (const line of (read(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const [, controllers = '', ...rest] = line.split(':');
    const path = rest.join(':');
    if (controllers && !controllers.split(',').includes('cpu')) continue;
    // In a container the path may be the host's, and the mount shows the container's own folder as its root: that one is always asked.
    const mounts = controllers ? [join('sys/fs/cgroup', controllers), 'sys/fs/cgroup/cpu'] : ['sys/fs/cgroup'];
    for (const mount of mounts) {
      for (let folder = join('/', path); ; folder = dirname(folder)) {
        const granted = quotaOf(join(root, mount, folder));
        if (granted !== undefined) quotas.push(granted);
        if (folder === '/') break;
      }
    }
  }
  return Math.min(...quotas, Infinity);
}

/**
 * How many threads can compute at once: the affinity mask's processors, or fewer where a container's CPU quota (cgroup v1 or v2,
 * `docker --cpus`) grants less time. Rounded down, as threads above the quota only wait for each other's slices; at least 1.
 */
export function processors({ root = '/', cores = availableParallelism() }: Machine = {}): number {
  return Math.max(1, Math.floor(Math.min(cores, quota(root))));
}
