import { resolve } from 'node:path';
import envPaths from 'env-paths';
import { noRoom } from '../../util/files';

/** Why a way to an engine is closed and what opens it: one sentence. The installer prints it and takes the next way. */
export class Obstacle extends Error {
  override name = 'Obstacle';
}

/** Where the library and the built addons are kept, shared by all checkouts of a user. `EDGEVIT_CACHE` moves it. */
export function cacheFolder(): string {
  return process.env.EDGEVIT_CACHE ? resolve(process.env.EDGEVIT_CACHE) : envPaths('edgevit-lab', { suffix: '' }).cache;
}

/** The sentence for a full disk, met before, during or inside another program. */
export function diskFull(path: string, bytes?: number): Obstacle {
  const need = bytes === undefined ? '' : ` (${(bytes / 1e9).toFixed(1)} GB are needed)`;
  return new Obstacle(
    `The disk that holds ${path} is full${need}: free some space, or set EDGEVIT_CACHE to a folder on another disk.`,
  );
}

/** What a failed file operation means to a person; an error that is not the disk's is thrown on, because it is a bug. */
export function asObstacle(error: unknown): Obstacle {
  if (error instanceof Obstacle) return error;
  const { code, path = cacheFolder() } = error as NodeJS.ErrnoException;
  if (noRoom(error)) return diskFull(path);
  if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST'].includes(code ?? '')) {
    return new Obstacle(`${path} cannot be written (${code}): allow it, or set EDGEVIT_CACHE to a folder that can be.`);
  }
  throw error;
}

/** For what is only noted: in a cache that somebody else set up, and that cannot be written, it is found out anew each time. */
export function ignoreReadOnly(error: unknown): void {
  if (!['EACCES', 'EPERM', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
}
