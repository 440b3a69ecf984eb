import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** A process that works on a run. */
export interface Owner {
  host: string;
  pid: number;
  /** When the process began, as the system counts: numbers of processes come again. Null where the system doesn't say. */
  since: string | null;
}

export function thisProcess(): Owner {
  return { host: hostname(), pid: process.pid, since: beginning(process.pid) };
}

/** Whether a process has ended. Of other machines nothing is known: theirs count as alive. */
export function isGone({ host, pid, since }: Owner): boolean {
  return host === hostname() && !(exists(pid) && since === beginning(pid));
}

/** Whether this machine has a process of this number. */
export function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'; // somebody else's process is one too
  }
}

/** The start time in /proc/PID/stat, field 22; the second field is in brackets and may hold spaces. */
function beginning(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return null;
  }
}
