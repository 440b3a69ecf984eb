import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { UnreadableError } from '../cache/shards';
import { unreadableReason } from './walk';

/** The bytes of an image file. Rejects with an UnreadableError where the file is what can't be read; a full table of files or a failing disk is none of its. */
export async function readImage(path: string): Promise<Uint8Array> {
  try {
    // Without O_NONBLOCK, what has become a FIFO since it was listed would wait for a writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      if (!(await file.stat()).isFile()) throw new UnreadableError('no regular file');
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    const reason = unreadableReason(error);
    throw reason === undefined ? error : new UnreadableError(reason);
  }
}
