import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UserError } from '../../util/errors';

const errorCode = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}

/** Removes the scratch folders of processes that were killed. */
function removeAbandoned(cache: string): void {
  for (const name of readdirSync(cache)) {
    const pid = /\.(\d+)-\d+\.tmp$/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) rmSync(join(cache, name), { recursive: true, force: true });
  }
}

let scratches = 0;

/**
 * Lets `fill` write a folder that appears under its name when it is whole, or not at all. One that is there but not `isWhole` is
 * replaced; one that another process has finished meanwhile is kept. Throws a UserError where the disk is full or closed to us.
 */
export async function makeFolder(
  folder: string,
  isWhole: () => boolean,
  fill: (scratch: string) => Promise<void>,
): Promise<void> {
  const scratch = `${folder}.${process.pid}-${scratches++}.tmp`;
  try {
    mkdirSync(scratch, { recursive: true });
    try {
      removeAbandoned(dirname(folder));
      await fill(scratch);
      if (!isWhole()) replaceFolder(scratch, folder);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  } catch (error) {
    const code = errorCode(error);
    const remedy = 'choose another place by --cache-dir';
    if (['ENOSPC', 'EDQUOT'].includes(code))
      throw new UserError(`The disk is full while writing ${folder}: free some space, or ${remedy}.`);
    if (['EACCES', 'EROFS', 'EPERM', 'ENOTDIR', 'EEXIST'].includes(code))
      throw new UserError(`The cache ${folder} can't be written (${code}): ${remedy}.`);
    throw error;
  }
}

function replaceFolder(scratch: string, folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  try {
    renameSync(scratch, folder);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(errorCode(error))) throw error; // another process was faster by a moment
  }
}
