import { chmodSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { UserError } from './errors';
import { ensureFolder } from './files';
import { isGoneFrom, thisPlace } from './processes';

const PREFIX = '.scratch-';

/** Whether a folder is one that `scratchFolder` made, not one of those that are read. */
export function isScratch(name: string): boolean {
  return name.startsWith(PREFIX);
}

/**
 * A new, empty folder inside `parent`, on the same disk as what will be made of it: `moveFolder` gives it its name when it is whole, so
 * that nothing half-done is ever seen under a final name. Whoever asks removes it; what a killed process left behind goes at the next call.
 */
export function scratchFolder(parent: string): string {
  ensureFolder(parent);
  removeAbandoned(parent);
  const folder = mkdtempSync(join(parent, `${PREFIX}${Object.values(thisPlace()).join('-')}-${process.pid}-`));
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

/**
 * A folder to be made at `dir` by whoever asks: filled as `folder`, given its name by `keep`, and gone by `discard` where it was not. Throws
 * UserError, now or in `keep`, where something stands there already; `what` is it for, as in 'an export'.
 */
export function newFolder(dir: string, what: string): { folder: string; keep(): void; discard(): void } {
  const refuseOccupied = (): void => {
    const found = statSync(dir, { throwIfNoEntry: false });
    if (found && !(found.isDirectory() && readdirSync(dir).length === 0))
      throw new UserError(`'${dir}' is there already: ${what} needs a new or empty folder.`);
  };
  refuseOccupied();
  const target = resolve(dir);
  const folder = scratchFolder(dirname(target));
  return {
    folder,
    keep() {
      if (!moveFolder(folder, target)) refuseOccupied(); // filled by another process meanwhile
    },
    discard() {
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Host, boot and PID namespace of the process, and its number. */
const NAME = /^\.scratch-([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})-(\d+)-/;

/** Removes scratch folders of processes that are known to be gone. Those of other hosts and containers are theirs to remove. */
function removeAbandoned(parent: string): void {
  for (const name of readdirSync(parent).filter(isScratch)) {
    const [, host, boot, namespace, pid] = NAME.exec(name) ?? [];
    if (pid !== undefined && isGoneFrom({ host, boot, namespace }, Number(pid)))
      rmSync(join(parent, name), { recursive: true, force: true });
  }
}
