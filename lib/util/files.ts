import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** Makes a folder and those that it lies in. Node's own recursive mkdir never returns where one can't be made in /proc. */
export function ensureFolder(folder: string): void {
  try {
    mkdirSync(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const there = statSync(folder, { throwIfNoEntry: false });
    if (there?.isDirectory()) return;
    if (code !== 'ENOENT' || dirname(folder) === folder || statSync(dirname(folder), { throwIfNoEntry: false }))
      throw error;
    ensureFolder(dirname(folder));
    ensureFolder(folder);
  }
}

/**
 * Writes a file so that it is there whole or not at all: a temporary name that nobody can foresee, fsync, rename. Parent folders are made, and the
 * mode of a file that is replaced is kept.
 */
export function writeFileAtomic(path: string, ...parts: (string | Uint8Array)[]): void {
  ensureFolder(dirname(path));
  const temporary = `${path}.${randomBytes(8).toString('hex')}.tmp`;
  const mode = statSync(path, { throwIfNoEntry: false })?.mode;
  const file = openSync(temporary, 'wx', mode === undefined ? 0o666 : mode & 0o777);
  try {
    writeAll(file, parts);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

function writeAll(file: number, parts: (string | Uint8Array)[]): void {
  try {
    for (const part of parts) {
      const bytes = typeof part === 'string' ? Buffer.from(part) : part;
      for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Whether a file is one that `writeFileAtomic` did not come to rename, because its process was killed. */
export function isTemporary(name: string): boolean {
  return /\.[0-9a-f]{16}\.tmp$|\.\d+\.tmp$/.test(name);
}

/** What was to be written, where an operation names what stands in for it until then. */
function meant(path: string): string {
  return path.replace(/\/\.scratch-[^/]*(\/.*)?$/, '').replace(/\.[0-9a-f]{16}\.tmp$/, '');
}

/** Why a file operation failed, in a sentence that names the path; undefined for an error that is about something else. */
export function fileObstacle(error: unknown): string | undefined {
  const { code, path, dest, syscall } = (error ?? {}) as NodeJS.ErrnoException & { dest?: string };
  const at = dest ?? path;
  const why = OBSTACLES[code ?? ''];
  return at === undefined || why === undefined ? undefined : `'${meant(at)}' ${why} (${syscall}, ${code}).`;
}

const OBSTACLES: Record<string, string> = {
  ENOENT: "isn't there, or lies in a folder that can't be made",
  ENOTDIR: 'lies in what is no folder',
  EISDIR: 'is a folder',
  EEXIST: 'is there already',
  EACCES: 'is closed to this user',
  EPERM: 'is closed to this user',
  EROFS: 'lies on a disk that can only be read: --runs and --out, where a command has them, name another place',
  ENAMETOOLONG: 'has too long a name',
  ELOOP: 'is a link that leads back to itself',
};

/** Why nothing more could be written, in words; undefined for an error that is about something else, and has no such cause. */
export function noRoom(error: unknown): string | undefined {
  if (error instanceof Error && error.cause !== undefined) return noRoom(error.cause);
  switch ((error as NodeJS.ErrnoException | undefined)?.code) {
    case 'ENOSPC':
      return 'the disk is full';
    case 'EDQUOT':
      return 'the quota on this disk is used up';
    case 'EFBIG':
      return 'a file may not become so large here';
    default:
      return undefined;
  }
}
