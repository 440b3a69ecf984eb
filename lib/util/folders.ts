import { chmodSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isAlive } from './processes';

const PREFIX = '.scratch-';
const DAY_MS = 24 * 60 * 60 * 1000;

/** Whether a folder is one that `scratchFolder` made, not one of those that are read. */
export function isScratch(name: string): boolean {
  return name.startsWith(PREFIX);
}

/**
 * A new, empty folder inside `parent`, on the same disk as what will be made of it: `moveFolder` gives it its name when it is whole, so
 * that nothing half-done is ever seen under a final name. Whoever asks removes it; what a killed process left behind goes at the next call.
 */
export function scratchFolder(parent: string): string {
  mkdirSync(parent, { recursive: true });
  removeAbandoned(parent);
  const folder = mkdtempSync(join(parent, `${PREFIX}${hostname()}-${process.pid}-`));
  chmodSync(folder, 0o777 & ~process.umask()); // mkdtemp's are closed to everybody else, and so would be what is made of them
  return folder;
}

/** Runs `work` in a scratch folder, which is removed afterwards. */
export async function inScratch<T>(parent: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = scratchFolder(parent);
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Gives a folder its final name. False where a folder with contents, or a file, has that name already: decided by the file system, so that
 * two processes never share one.
 */
export function moveFolder(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (['EEXIST', 'ENOTEMPTY', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

/** Removes scratch folders of processes that are gone; those of another machine on the same disk only after a day. */
function removeAbandoned(parent: string): void {
  const ours = `${PREFIX}${hostname()}-`;
  for (const name of readdirSync(parent).filter(isScratch)) {
    const folder = join(parent, name);
    const changed = statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    const abandoned = name.startsWith(ours)
      ? !isAlive(parseInt(name.slice(ours.length), 10))
      : Date.now() - changed > DAY_MS;
    if (abandoned) rmSync(folder, { recursive: true, force: true });
  }
}
