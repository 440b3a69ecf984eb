import { spawn } from 'node:child_process';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { noRoom } from '../../util/files';

/** Why a way to an engine is closed and what opens it: one sentence. The installer prints it and takes the next way. */
export class Obstacle extends Error {
  override name = 'Obstacle';
}

/** Where the library and the built addons are kept, shared by all checkouts of a user. `EDGEVIT_CACHE` moves it. */
export function cacheFolder(): string {
  if (process.env.EDGEVIT_CACHE) return resolve(process.env.EDGEVIT_CACHE);
  if (process.platform === 'darwin') return join(homedir(), 'Library/Caches/edgevit-lab');
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'edgevit-lab');
}

export interface Outcome {
  /** Exit status; null when a signal ended the program or there is no such program. */
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Whether the program could not be started at all. */
  missing: boolean;
  /** stdout and stderr, as they came. */
  output: string;
}

/** Runs a program to its end. Never throws: the outcome says what happened. */
export function execute(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  return new Promise(resolve => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
    const finish = (outcome: Omit<Outcome, 'output'>): void =>
      resolve({ ...outcome, output: Buffer.concat(chunks).toString() });
    child.on('error', () => finish({ code: null, signal: null, missing: true }));
    child.on('close', (code, signal) => finish({ code, signal, missing: false }));
  });
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
