import { get as getHttp, type IncomingMessage } from 'node:http';
import { get as getHttps } from 'node:https';
import { Failure } from './errors';

/** Plain HTTP only within this machine, where nobody else can read or change what passes. */
const isLocal = ({ hostname }: URL): boolean => ['localhost', '127.0.0.1', '[::1]'].includes(hostname);

/**
 * GET over HTTPS, past at most five redirects, which must be HTTPS too. Not `fetch`: that unpacks a `.tgz` which a server labels
 * with `Content-Encoding: x-gzip`, as Apache is often set up to do, and its checksum would be another. Rejects with a Failure for
 * an address that is not HTTPS, and with the connection's error where it breaks or is silent for 30 s.
 */
export async function request(
  address: string,
  headers: Record<string, string> = {},
  redirects = 5,
): Promise<IncomingMessage> {
  const url = new URL(address);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLocal(url)))
    throw new Failure(`${url.origin}${url.pathname} is not downloaded: only https:// is allowed.`);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const get = url.protocol === 'https:' ? getHttps : getHttp;
    const sent = get(url, { headers, timeout: 30_000 }, resolve);
    sent.on('timeout', () => sent.destroy(new Error('silent for 30 s')));
    sent.on('error', reject);
  });
  const { statusCode = 0, headers: received } = response;
  if (statusCode < 300 || statusCode >= 400 || received.location === undefined || redirects === 0) return response;
  response.resume();
  return request(new URL(received.location, url).href, headers, redirects - 1);
}

/** What arrives, refused with a Failure beyond `most` bytes: a server may send without end. */
export async function* limited(response: IncomingMessage, most: number): AsyncGenerator<Buffer> {
  let arrived = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    arrived += chunk.length;
    if (arrived > most) {
      response.destroy();
      throw new Failure(`The server sends more than the ${most} bytes that are expected.`);
    }
    yield chunk;
  }
}
