import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { Failure } from './errors';

/**
 * Whether an address is asked, `from` the one that led there: HTTPS, and plain HTTP only within this machine, where nobody else can read or change
 * what passes, and where no server of another leads.
 */
export function isAllowed({ protocol, hostname }: URL, from?: URL): boolean {
  if (protocol === 'https:') return true;
  return protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(hostname) && from?.protocol !== 'https:';
}

/** A server that is silent for so long has gone away. */
const SILENT_MS = 30_000;

const BROKEN = [
  'ECONNRESET',
  'ECONNREFUSED',
  'ENOTFOUND',
  'ENETDOWN',
  'ENETUNREACH',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'EPIPE',
];
const SILENT = ['UND_ERR_SOCKET', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'];

export interface RequestOptions {
  headers?: Record<string, string>;
  /** How often a broken connection is taken up again, where it broke if the server knows ranges (default 0). */
  retries?: number;
  /** Milliseconds before the first retry; each later one waits twice as long (default 1000). */
  wait?: number;
}

/**
 * GET over HTTPS, past at most five redirects, which must be HTTPS too. Not `fetch`: that unpacks a `.tgz` which a server labels
 * with `Content-Encoding: x-gzip`, as Apache is often set up to do, and its checksum would be another. Rejects with a Failure for
 * an address that is not HTTPS, and with the connection's error where it breaks or is silent for 30 s.
 */
export async function request(
  address: string,
  { headers = {}, retries = 0, wait = 1000 }: RequestOptions = {},
  redirects = 5,
  from?: URL,
): Promise<Dispatcher.ResponseData> {
  const url = new URL(address);
  if (!isAllowed(url, from))
    throw new Failure(`${url.origin}${url.pathname} is not downloaded: only https:// is allowed.`);
  const { Agent, RetryAgent, request: get } = await import('undici'); // most who import this room download nothing
  const agent = new Agent({ connectTimeout: SILENT_MS, headersTimeout: SILENT_MS, bodyTimeout: SILENT_MS });
  const dispatcher =
    retries === 0
      ? agent
      : new RetryAgent(agent, {
          maxRetries: retries,
          minTimeout: wait,
          timeoutFactor: 2,
          errorCodes: [...BROKEN, ...SILENT],
        });
  const response = await get(url, { headers, dispatcher });
  const { statusCode, headers: received } = response;
  const { location } = received;
  if (statusCode < 300 || statusCode >= 400 || typeof location !== 'string' || redirects === 0) return response;
  await response.body.dump();
  return request(new URL(location, url).href, { headers, retries, wait }, redirects - 1, url);
}

/** What arrives, refused with a Failure beyond `most` bytes: a server may send without end. */
export async function* limited(body: Readable, most: number): AsyncGenerator<Buffer> {
  let arrived = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    arrived += chunk.length;
    if (arrived > most) {
      body.on('error', () => {}).destroy(); // whose abort would be nobody's error
      throw new Failure(`The server sends more than the ${most} bytes that are expected.`);
    }
    yield chunk;
  }
}
