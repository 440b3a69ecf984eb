import { existsSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { basename, join } from 'node:path';
import { recordOf } from './sums';
import { ignoreReadOnly } from './system';

const DAY = 86_400_000;

/** How long an addon or a checkout's note stays unused before it goes. */
const KEPT = 30 * DAY;

const age = (file: string): number => Date.now() - (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0);

/** Dates the last use of a file in the cache, to the day. */
export function markUsed(file: string): void {
  if (!existsSync(file) || age(file) < DAY) return;
  const now = new Date();
  try {
    utimesSync(file, now, now);
  } catch (error) {
    ignoreReadOnly(error);
  }
}

/** An addon's use is dated by its record: its own time is one of the things recorded. */
export function markAddonUsed(addon: string): void {
  markUsed(recordOf(addon));
}

/**
 * Removes addons and checkouts' notes that nobody used for 30 days, whichever host or boot they are from. Addons stay that a note which
 * stays names, or that a process here has loaded.
 */
export function pruneCache(cache: string, kept: readonly string[]): void {
  const files = readdirSync(cache).map(name => join(cache, name));
  const isOld = (file: string): boolean => age(file) > KEPT;
  const [oldNotes, notes] = divide(
    files.filter(file => /^checkout-.*\.json$/.test(basename(file))),
    isOld,
  );
  const named = notes.map(note => readFileSync(note, 'utf8')).join('\n');
  const lastUse = (addon: string): string => (existsSync(recordOf(addon)) ? recordOf(addon) : addon);
  const oldAddons = files.filter(
    file =>
      /^addon-.*\.node$/.test(basename(file)) &&
      isOld(lastUse(file)) &&
      !kept.includes(file) &&
      !named.includes(basename(file)) &&
      !isLoaded(file),
  );
  for (const file of [...oldNotes, ...oldAddons, ...oldAddons.map(recordOf)]) rmSync(file, { force: true });
}

function divide<T>(values: readonly T[], isFirst: (value: T) => boolean): [T[], T[]] {
  return [values.filter(isFirst), values.filter(value => !isFirst(value))];
}

/** Whether a process of this machine, as far as its user may look, has a file in its memory. */
function isLoaded(file: string): boolean {
  if (!existsSync('/proc/self/maps')) return false;
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .some(pid => {
      try {
        return readFileSync(`/proc/${pid}/maps`, 'utf8').includes(file);
      } catch {
        return false; // somebody else's, or ended meanwhile
      }
    });
}
