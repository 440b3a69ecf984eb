import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import type { KernelMessage } from '@jupyterlab/services';
import { z } from 'zod';

/** The Jupyter wire protocol's messages (https://jupyter-client.readthedocs.io/en/stable/messaging.html), for the kernel and for its client. */
const headerSchema = z.object({
  msg_id: z.string(),
  msg_type: z.string(),
  session: z.string().default(''),
  username: z.string().default(''),
  date: z.string().default(''),
  version: z.string().default(''),
});
export type Header = z.infer<typeof headerSchema>;

export type Content = Record<string, unknown>;
const contentSchema = z.record(z.string(), z.unknown());

/** What JupyterLab takes the content of a message of type `T` to be. */
export type ContentOf<T extends KernelMessage.MessageType> = Extract<
  KernelMessage.Message,
  KernelMessage.IMessage<T>
>['content'];

export interface Message {
  /** Routing prefix of zeromq: who asked; empty on a client. */
  identities: Buffer[];
  header: Header;
  /** The header of the request that this answers, or `{}`. */
  parent: Header | Record<string, never>;
  metadata: Content;
  content: Content;
}

/** A message on its way out, whose content has the type of its kind. */
export type Outgoing = Omit<Message, 'content'> & { content: object };

export type Frames = (Buffer | string)[];

export const PROTOCOL_VERSION = '5.4';
const DELIMITER = '<IDS|MSG>';
/** What is nested deeper breaks whatever walks through it by recursion, also what copies it to another thread. */
const MAX_DEPTH = 500;

/** A message that comes from one who has the key, but that is none of the protocol. */
export class MalformedMessage extends Error {
  /** `header` is as much of it as can be told. */
  constructor(
    message: string,
    readonly identities: Buffer[],
    readonly header: Header,
  ) {
    super(message);
  }
}

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

export function encode(key: string, message: Outgoing): Frames {
  const parts = [message.header, message.parent, message.metadata, message.content].map(part => JSON.stringify(part));
  return [...message.identities, DELIMITER, sign(key, parts), ...parts];
}

/** Throws if the frames are not signed with the key, or a MalformedMessage if they are but are no message. */
export function decode(key: string, frames: readonly Buffer[]): Message {
  const at = frames.findIndex(frame => frame.toString('latin1') === DELIMITER);
  if (at < 0 || frames.length < at + 6) throw new Error('a message of the wrong form');
  const signature = frames[at + 1]!;
  const signed = frames.slice(at + 2, at + 6); // buffers may follow; they are not signed
  const expected = Buffer.from(sign(key, signed));
  if (expected.length !== signature.length || !timingSafeEqual(expected, signature))
    throw new Error('a message with a wrong signature');
  const identities = frames.slice(0, at);
  const [header, parent, metadata, content] = signed.map(parse);
  const parsed = headerSchema.safeParse(header);
  const known = parsed.data ?? { ...newHeader('unknown_request', '', ''), msg_id: '' };
  const malformed = (what: string): MalformedMessage =>
    new MalformedMessage(`The kernel got a message ${what}.`, identities, known);
  if (!parsed.success) throw malformed(`whose header is none: ${z.prettifyError(parsed.error)}`);
  if (isNestedDeeper(content, MAX_DEPTH)) throw malformed(`whose content is nested more than ${MAX_DEPTH} deep`);
  const checked = contentSchema.safeParse(content);
  if (!checked.success) throw malformed('whose content is no JSON object');
  return {
    identities,
    header: parsed.data,
    parent: headerSchema.safeParse(parent).data ?? {},
    metadata: contentSchema.safeParse(metadata).data ?? {},
    content: checked.data,
  };
}

/** Nothing where it is no JSON. */
function parse(part: Buffer): unknown {
  try {
    return JSON.parse(part.toString());
  } catch {
    return undefined;
  }
}

function isNestedDeeper(value: unknown, depth: number): boolean {
  let level = [value];
  for (let at = 0; at <= depth; at++) {
    level = level.flatMap(entry => (typeof entry === 'object' && entry !== null ? Object.values(entry) : []));
    if (level.length === 0) return false;
  }
  return true;
}
