import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { isAlive, isGoneFrom, type Place, thisPlace } from './processes';

/** A process that works on a run. */
export interface Owner {
  host: string;
  pid: number;
  /** When the process began, as the system counts: numbers of processes come again. Null where the system doesn't say. */
  since: string | null;
  /** Where its number means something; runs of format 1 don't say. */
  place?: Place;
}

export function thisProcess(): Owner {
  return { host: hostname(), pid: process.pid, since: beginning(process.pid), place: thisPlace() };
}

/** Whether a process has ended. Of other machines and containers nothing is known: theirs count as alive. */
export function isGone({ host, pid, since, place }: Owner): boolean {
  if (place) {
    const here = thisPlace();
    const near = place.host === here.host && place.boot === here.boot && place.namespace === here.namespace;
    return isGoneFrom(place, pid) || (near && since !== beginning(pid));
  }
  return host === hostname() && !(isAlive(pid) && since === beginning(pid));
}

/** Whether nothing can be known of a process here: it is, or was, one of another machine or container. */
export function isElsewhere({ host, place }: Owner): boolean {
  const here = thisPlace();
  return place ? place.host !== here.host || place.namespace !== here.namespace : host !== hostname();
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
