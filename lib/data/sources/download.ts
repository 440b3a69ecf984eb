import { createHash } from 'node:crypto';
import { closeSync, createReadStream, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Failure, UserError } from '../../util/errors';
import { noRoom } from '../../util/files';
import { limited, request } from '../../util/https';
import { byteProgress } from '../../util/progress';

/** md5 of a file, in hexadecimal. */
export async function md5(path: string): Promise<string> {
  const hash = createHash('md5');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** More than any dataset here has: a server that sends without end does not fill the disk. */
const MOST_BYTES = 4e9;

/** Appends to `part` what is missing of it; starts again where the server can't continue. */
async function fetchRest(
  url: string,
  part: string,
  { most, retries, wait }: Required<Omit<DownloadOptions, 'md5'>>,
): Promise<void> {
  const held = sizeOf(part);
  const range: Record<string, string> = held > 0 ? { range: `bytes=${held}-` } : {};
  const { statusCode, headers, body } = await request(url, { headers: range, retries, wait });
  if (statusCode === 416) {
    // nothing lies beyond what we have: it is whole, or not of this file, as its checksum will tell
    await body.dump();
    return;
  }
  if (statusCode !== 200 && statusCode !== 206) {
    await body.dump();
    throw new UserError(`${url} can't be downloaded: the server answers ${statusCode}.`);
  }
  let done = statusCode === 206 ? held : 0;
  const missing = Number(headers['content-length'] ?? 0);
  const bar = missing > 0 ? byteProgress(basename(url), done + missing) : undefined;
  const file = openSync(part, done > 0 ? 'a' : 'w');
  try {
    for await (const chunk of limited(body, most - done)) {
      for (let at = 0; at < chunk.length; ) at += writeSync(file, chunk, at); // at once: what has arrived is kept, whatever happens next
      done += chunk.length;
      bar?.to(done);
    }
  } finally {
    closeSync(file);
    bar?.end();
  }
}

export interface DownloadOptions {
  /** Of the whole file, in hexadecimal; left out where nobody has published it, and whoever asks checks the file. */
  md5?: string;
  /** Bytes beyond which no server is believed (default 4 GB). */
  most?: number;
  /** How often a broken connection is taken up again (default 5). */
  retries?: number;
  /** Milliseconds before the first retry; each later one waits twice as long (default 1000). */
  wait?: number;
}

/**
 * Downloads a file that appears under its name when it is whole, and its md5 is right where one is given. What has arrived is kept in `<path>.part`: a broken connection,
 * or the next run, resumes there. Throws a UserError where the server refuses, the connection stays broken or the md5 is wrong.
 */
export async function download(
  url: string,
  path: string,
  { md5: expected, most = MOST_BYTES, retries = 5, wait = 1000 }: DownloadOptions,
): Promise<void> {
  const part = `${path}.part`;
  mkdirSync(dirname(path), { recursive: true });
  try {
    await fetchRest(url, part, { most, retries, wait });
  } catch (error) {
    if (error instanceof UserError || error instanceof Failure) throw error;
    const full = noRoom(error);
    if (full)
      throw new UserError(`${part} can't be written, for ${full}: free some space and start again, it resumes there.`);
    const { code, message } = error as NodeJS.ErrnoException;
    throw new UserError(
      `${url} can't be downloaded (${message || code}): start again later, it resumes from ${(sizeOf(part) / 1e6).toFixed(1)} MB.`,
    );
  }
  const actual = expected && (await md5(part));
  if (actual !== expected) {
    rmSync(part);
    throw new UserError(`${url} arrived with md5 ${actual} instead of ${expected}, and was deleted: start again.`);
  }
  renameSync(part, path);
}
