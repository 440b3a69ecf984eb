import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../util/errors';
import { noRoom } from '../../util/files';
import { inScratch, moveFolder } from '../../util/folders';

/**
 * Lets `fill` write a folder of the cache and say its name, under which it appears when it is whole, or not at all. One that is there
 * but not `isWhole` is replaced; one that another process has finished meanwhile is kept. Resolves to the folder's path. Throws a
 * UserError where the disk is full or closed to us.
 */
export async function makeFolder(
  cache: string,
  fill: (scratch: string) => Promise<string>,
  isWhole: (folder: string) => Promise<boolean>,
): Promise<string> {
  try {
    return await inScratch(cache, async scratch => {
      const folder = join(cache, await fill(scratch));
      if (await isWhole(folder)) return folder;
      rmSync(folder, { recursive: true, force: true });
      moveFolder(scratch, folder); // unless another process was faster by a moment
      return folder;
    });
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    const remedy = 'choose another place by --cache-dir';
    const full = noRoom(error);
    if (full) throw new UserError(`The cache ${cache} can't be written, for ${full}: free some space, or ${remedy}.`);
    if (['EACCES', 'EROFS', 'EPERM', 'ENOTDIR', 'EEXIST'].includes(code))
      throw new UserError(`The cache ${cache} can't be written (${code}): ${remedy}.`);
    throw error;
  }
}
