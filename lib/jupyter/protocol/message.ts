import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';

/** The Jupyter wire protocol's messages (https://jupyter-client.readthedocs.io/en/stable/messaging.html), for the kernel and for its client. */
export interface Header {
  msg_id: string;
  msg_type: string;
  session: string;
  username: string;
  date: string;
  version: string;
}

export type Content = Record<string, unknown>;

export interface Message {
  /** Routing prefix of zeromq: who asked; empty on a client. */
  identities: Buffer[];
  header: Header;
  /** The header of the request that this answers, or `{}`. */
  parent: Header | Record<string, never>;
  metadata: Content;
  content: Content;
}

export type Frames = (Buffer | string)[];

export const PROTOCOL_VERSION = '5.3';
const DELIMITER = '<IDS|MSG>';

export function newHeader(msg_type: string, session: string, username: string): Header {
  return {
    msg_id: randomUUID(),
    msg_type,
    session,
    username,
    date: new Date().toISOString(),
    version: PROTOCOL_VERSION,
  };
}

function sign(key: string, parts: readonly (Buffer | string)[]): string {
  const hmac = createHmac('sha256', key);
  for (const part of parts) hmac.update(part);
  return hmac.digest('hex');
}

export function encode(key: string, message: Message): Frames {
  const parts = [message.header, message.parent, message.metadata, message.content].map(part => JSON.stringify(part));
  return [...message.identities, DELIMITER, sign(key, parts), ...parts];
}

/** Throws if the frames are no message, or not signed with the key. */
export function decode(key: string, frames: readonly Buffer[]): Message {
  const at = frames.findIndex(frame => frame.toString('latin1') === DELIMITER);
  if (at < 0 || frames.length < at + 6) throw new Error('a message of the wrong form');
  const parts = frames.slice(at + 2, at + 6); // buffers may follow; they are not signed
  const expected = Buffer.from(sign(key, parts));
  if (expected.length !== frames[at + 1].length || !timingSafeEqual(expected, frames[at + 1]))
    throw new Error('a message with a wrong signature');
  const [header, parent, metadata, content] = parts.map(part => JSON.parse(part.toString()));
  return { identities: frames.slice(0, at), header, parent, metadata, content };
}
