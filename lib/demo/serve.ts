import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { UserError } from '../util/errors';

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
  const { default: sirv } = await import('sirv'); // a development dependency, as all that makes the page is
  const files = sirv(folder, {
    etag: true,
    setHeaders(response) {
      for (const [name, value] of Object.entries({ ...headers, 'Cache-Control': 'no-cache' }))
        response.setHeader(name, value);
    },
  });
  const server = createServer((request, response) => {
    const refuse = (status: number): void => void response.writeHead(status, headers).end();
    if (!HOSTS.test(request.headers.host ?? '')) refuse(403);
    else if (request.method !== 'GET' && request.method !== 'HEAD') refuse(405);
    else files(request, response, () => refuse(404));
  });
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
