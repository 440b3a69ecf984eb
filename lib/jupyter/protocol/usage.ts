import { readFileSync } from 'node:fs';
import { cpus, freemem, hostname, totalmem } from 'node:os';

/** What the kernel and its machine use, as ipykernel tells it to JupyterLab. Percentages are of the time since the last call. */
export class Usage {
  private before = reading();

  report() {
    const { before } = this;
    const now = reading();
    this.before = now;
    const share = (part: number, whole: number): number => (whole > 0 ? Math.round((1000 * part) / whole) / 10 : 0);
    const [total, available] = [totalmem(), availableMemory()];
    return {
      status: 'ok',
      hostname: hostname(),
      pid: process.pid,
      kernel_cpu: share(now.kernel - before.kernel, now.at - before.at),
      kernel_memory: process.memoryUsage.rss(),
      cpu_count: cpus().length,
      host_cpu_percent: share(now.busy - before.busy, now.all - before.all),
      host_virtual_memory: {
        total,
        available,
        percent: share(total - available, total),
        used: total - available,
        free: freemem(),
      },
    };
  }
}

/** All in milliseconds; `busy` and `all` of all processors. */
function reading(): { at: number; kernel: number; busy: number; all: number } {
  const { user, system } = process.cpuUsage();
  const times = cpus().map(({ times: { idle, ...working } }) => ({
    idle,
    busy: Object.values(working).reduce((sum, time) => sum + time, 0),
  }));
  const busy = times.reduce((sum, time) => sum + time.busy, 0);
  const idle = times.reduce((sum, time) => sum + time.idle, 0);
  return { at: performance.now(), kernel: (user + system) / 1000, busy, all: busy + idle };
}

/** Caches of files count as available, where the system says how much they are. */
function availableMemory(): number {
  try {
    const [, kilobytes] = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
    return kilobytes === undefined ? freemem() : 1024 * Number(kilobytes);
  } catch {
    return freemem();
  }
}
