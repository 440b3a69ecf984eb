import { once } from 'node:events';
import { createReadStream, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { UserError } from '../util/errors';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** By which a browser lets the page have threads that share memory (cross-origin isolation). */
const ISOLATION = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

/** Another site's name may lead here (DNS rebinding). */
const HOSTS = /^(127\.0\.0\.1|localhost)(:\d+)?$/;

export interface Served {
  url: string;
  close(): void;
}

/** Serves the files of a folder to this machine alone. `port` 0 is any that is free. Throws UserError for a port that is taken or not allowed. */
export async function serve(folder: string, port = 0, headers: Record<string, string> = ISOLATION): Promise<Served> {
  const server = createServer((request, response) => answer(folder, headers, request, response));
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE' || code === 'EACCES')
      throw new UserError(
        `--port=${port} ${code === 'EACCES' ? 'is not allowed to you' : 'is taken by another program'}: without it any that is free is taken.`,
      );
    throw error;
  }
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return {
    url,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function answer(
  folder: string,
  headers: Record<string, string>,
  { method, url = '/', headers: { host = '' } }: IncomingMessage,
  response: ServerResponse,
): void {
  const path = fileOf(folder, url);
  const found = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false });
  const status = !HOSTS.test(host) ? 403 : method !== 'GET' && method !== 'HEAD' ? 405 : !found?.isFile() ? 404 : 200;
  if (status !== 200 || path === undefined || !found) {
    response.writeHead(status, headers).end();
    return;
  }
  response.writeHead(status, {
    ...headers,
    'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream',
    'Content-Length': found.size,
    'Cache-Control': 'no-cache',
  });
  if (method === 'HEAD') response.end();
  else
    createReadStream(path)
      .on('error', () => response.destroy())
      .pipe(response);
}

/** The file that an address names; undefined for what is no path inside. */
function fileOf(folder: string, url: string): string | undefined {
  try {
    const { pathname } = new URL(url, 'http://localhost');
    const path = normalize(decodeURIComponent(pathname));
    if (path.includes('\0') || path.includes('..')) return undefined;
    return join(folder, path.endsWith('/') ? `${path}index.html` : path);
  } catch {
    return undefined;
  }
}
