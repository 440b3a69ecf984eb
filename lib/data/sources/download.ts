import { createHash } from 'node:crypto';
import { closeSync, createReadStream, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { get as getHttp, type IncomingMessage } from 'node:http';
import { get as getHttps } from 'node:https';
import { basename, dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { UserError } from '../../util/errors';
import { noRoom } from '../../util/files';
import { byteProgress } from '../../util/progress';

/** md5 of a file, in hexadecimal. */
export async function md5(path: string): Promise<string> {
  const hash = createHash('md5');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/**
 * GET from byte `start` on, past redirects. Not `fetch`: that unpacks a `.tgz` which a server labels with
 * `Content-Encoding: x-gzip`, as Apache is often set up to do, and its checksum would be another.
 */
async function request(url: string, start: number, redirects = 5): Promise<IncomingMessage> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const get = url.startsWith('https:') ? getHttps : getHttp;
    const headers = start > 0 ? { range: `bytes=${start}-` } : {};
    const sent = get(url, { headers, timeout: 30_000 }, resolve);
    sent.on('timeout', () => sent.destroy(new Error('silent for 30 s')));
    sent.on('error', reject);
  });
  const { statusCode = 0, headers } = response;
  if (statusCode < 300 || statusCode >= 400 || headers.location === undefined || redirects === 0) return response;
  response.resume();
  return request(new URL(headers.location, url).href, start, redirects - 1);
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** Appends to `part` what is missing of it; starts again where the server can't continue. */
async function fetchRest(url: string, part: string): Promise<void> {
  const held = sizeOf(part);
  const response = await request(url, held);
  const { statusCode, headers } = response;
  if (statusCode === 416) {
    // nothing lies beyond what we have: it is whole, or not of this file, as its checksum will tell
    response.resume();
    return;
  }
  if (statusCode !== 200 && statusCode !== 206) {
    response.resume();
    throw new UserError(`${url} can't be downloaded: the server answers ${statusCode} ${response.statusMessage}.`);
  }
  let done = statusCode === 206 ? held : 0;
  const missing = Number(headers['content-length'] ?? 0);
  const bar = missing > 0 ? byteProgress(basename(url), done + missing) : undefined;
  const file = openSync(part, done > 0 ? 'a' : 'w');
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
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
  /** Of the whole file, in hexadecimal. */
  md5: string;
  /** How often a broken connection is taken up again (default 5). */
  retries?: number;
  /** Milliseconds before the first retry; each later one waits twice as long (default 1000). */
  wait?: number;
}

/**
 * Downloads a file that appears under its name when its md5 is right. What has arrived is kept in `<path>.part`: a broken connection,
 * or the next run, goes on from there. Throws a UserError where the server refuses, the connection stays broken or the md5 is wrong.
 */
export async function download(
  url: string,
  path: string,
  { md5: expected, retries = 5, wait = 1000 }: DownloadOptions,
): Promise<void> {
  const part = `${path}.part`;
  mkdirSync(dirname(path), { recursive: true });
  for (let attempt = 0; ; attempt++) {
    try {
      await fetchRest(url, part);
      break;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (error instanceof UserError) throw error;
      const full = noRoom(error);
      if (full)
        throw new UserError(
          `${part} can't be written, for ${full}: free some space and start again, it resumes there.`,
        );
      if (attempt === retries) {
        throw new UserError(
          `${url} can't be downloaded (${message || code}): start again later, it goes on from ${(sizeOf(part) / 1e6).toFixed(1)} MB.`,
        );
      }
      await pause(wait * 2 ** attempt);
    }
  }
  const actual = await md5(part);
  if (actual !== expected) {
    rmSync(part);
    throw new UserError(`${url} arrived with md5 ${actual} instead of ${expected}, and was deleted: start again.`);
  }
  renameSync(part, path);
}
