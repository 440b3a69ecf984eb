import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { UserError } from '../../util/errors';
import { noRoom } from '../../util/files';
import { inScratch, moveFolder } from '../../util/folders';

/**
 * Lets `fill` write a folder that appears under its name when it is whole, or not at all. One that is there but not `isWhole` is
 * replaced; one that another process has finished meanwhile is kept. Throws a UserError where the disk is full or closed to us.
 */
export async function makeFolder(
  folder: string,
  isWhole: () => boolean,
  fill: (scratch: string) => Promise<void>,
): Promise<void> {
  try {
    await inScratch(dirname(folder), async scratch => {
      await fill(scratch);
      if (isWhole()) return;
      rmSync(folder, { recursive: true, force: true });
      moveFolder(scratch, folder); // unless another process was faster by a moment
    });
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    const remedy = 'choose another place by --cache-dir';
    const full = noRoom(error);
    if (full) throw new UserError(`${folder} can't be written, for ${full}: free some space, or ${remedy}.`);
    if (['EACCES', 'EROFS', 'EPERM', 'ENOTDIR', 'EEXIST'].includes(code))
      throw new UserError(`The cache ${folder} can't be written (${code}): ${remedy}.`);
    throw error;
  }
}
