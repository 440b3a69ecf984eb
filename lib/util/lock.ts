import { randomBytes } from 'node:crypto';
import { lstatSync, lutimesSync, readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureFolder } from './files';
import { isGone, type Owner, thisProcess } from './owner';

/** How often who waits looks, how often who holds shows itself, and how long another may be silent before it counts as gone (ms). */
const TIMES = { look: 200, beat: 5_000, silence: 60_000 };

/**
 * Runs `work` when no other process does so for the same path; `wait` is told once of whom it waits for. Each makes a link
 * `PATH.lock-RANDOM`, which says who made it, and has the lock if it then finds no other's: of two at least one sees the other, and retreats.
 * A link counts for nothing once its process is gone; where that cannot be known (another host or container), once it was not
 * renewed for a minute.
 */
export async function locked<T>(
  path: string,
  wait: (holder: Owner) => void,
  work: () => Promise<T>,
  times = TIMES,
): Promise<T> {
  ensureFolder(dirname(path));
  const own = `${path}.lock-${randomBytes(8).toString('hex')}`;
  const others = watch(path, own, times.silence);
  let told = false;
  try {
    for (;;) {
      const before = others();
      if (!before.length) symlinkSync(JSON.stringify(thisProcess()), own);
      const [holder] = before.length ? before : others();
      if (!holder) break;
      rmSync(own, { force: true });
      if (!told) wait(holder);
      told = true;
      await sleep(times.look * (1 + Math.random())); // two that retreat return at different times
    }
    const beat = setInterval(() => renew(own), times.beat).unref();
    try {
      return await work();
    } finally {
      clearInterval(beat);
    }
  } finally {
    rmSync(own, { force: true });
  }
}

/** Looks for others that hold a lock or are about to, and removes the links of those that are gone. */
function watch(path: string, own: string, silence: number): () => Owner[] {
  /** When a link was last seen to be renewed: by the clock here, since those of other hosts may be wrong. */
  const seen = new Map<string, { renewed: number; at: number }>();
  const isSilent = (link: string): boolean => {
    const renewed = lstatSync(link).mtimeMs;
    if (seen.get(link)?.renewed !== renewed) seen.set(link, { renewed, at: performance.now() });
    return performance.now() - seen.get(link)!.at > silence;
  };
  return () =>
    readdirSync(dirname(path))
      .filter(name => name.startsWith(`${basename(path)}.lock-`))
      .map(name => join(dirname(path), name))
      .filter(link => link !== own)
      .flatMap(link => {
        try {
          const owner = JSON.parse(readlinkSync(link)) as Owner;
          if (!isGone(owner) && !isSilent(link)) return [owner];
          rmSync(link, { force: true });
        } catch (error) {
          // Released meanwhile, or another user's whose link only that one may remove.
          if (!['ENOENT', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
        }
        return [];
      });
}

function renew(link: string): void {
  const now = new Date();
  try {
    lutimesSync(link, now, now);
  } catch {
    // Removed by somebody who took this process for gone: nothing to renew.
  }
}
