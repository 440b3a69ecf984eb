import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { Redis, ReplyError } from 'ioredis';
import { z } from 'zod';
import { Failure, UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { decisive, type Environment } from './environment';
import { sha256 } from './schemas';
import { trialSchema } from './trialFile';

/*
 * What a sweep and its workers agree on: BullMQ's queues in Redis, one for each environment that decides other bytes, so that a worker is never
 * given what it can't train. A trial's name is its job's.
 */

export const PREFIX = 'edgevit-lab';

/** Threads are not in it: each trial says how many it takes. */
export function queueName(environment: Environment): string {
  const { threads: _, ...deciding } = decisive(environment);
  return `trials-${createHash('sha256').update(JSON.stringify(deciding)).digest('hex').slice(0, 16)}`;
}

/** Where a worker without the sweep's disk puts a done run, and a sweep its wish that a trial under way be ended. */
export const bundleKey = (name: string): string => `${PREFIX}:bundle:${name}`;
export const cancelKey = (name: string): string => `${PREFIX}:cancel:${name}`;
/** What nobody fetches goes after so long. */
export const KEPT_S = 30 * 24 * 3600;

export const jobSchema = z.object({
  trial: trialSchema.required({ name: true }),
  /** Of the images. */
  fingerprint: sha256,
  /** `folderId` of the sweep's folder of runs. */
  folder: z.uuid(),
});
export type TrialJob = z.output<typeof jobSchema>;

/** How a worker hands a done run back: in the folder of runs that it has in common with the sweep, or as a bundle. */
export type Delivery = 'folder' | 'bundle';

export type TrialQueue = Queue<TrialJob, Delivery>;

/** Two machines that read one id have a folder of runs in common. */
export function folderId(runs: string): string {
  const file = join(runs, 'trials', '.folder');
  if (!existsSync(file)) writeFileAtomic(file, randomUUID());
  return readFileSync(file, 'utf8');
}

/** Where a Redis is, without its password. */
export function address(url: string): string {
  const { hostname, port, pathname } = parse(url);
  return `${hostname}:${port || 6379}${pathname.length > 1 ? pathname : ''}`;
}

/** So long may a Redis take to say what it is: what is silent for longer is none. */
const ANSWER_MS = 10_000;

/**
 * Connects to a Redis that a queue may be kept in. A connection that is lost later is made again for as long as it takes. Throws UserError for one
 * that is too old or may forget keys, Failure for one that can't be reached or has no database of the number asked for.
 */
export async function openRedis(url: string, say: (line: string) => void): Promise<Redis> {
  const where = address(url);
  let connected = false;
  const redis = new Redis(url, {
    lazyConnect: true,
    maxRetriesPerRequest: null,
    retryStrategy: times => (connected ? Math.min(200 * times, 5_000) : null),
  });
  let trouble: Error | undefined;
  redis.on('error', (error: Error) => {
    if (connected && !trouble) say(`Redis at ${where} is out of reach; waiting for it.`);
    trouble = error;
  });
  redis.on('ready', () => {
    trouble = undefined;
  });
  redis.on('end', () => {
    connected = false; // nor are BullMQ's copies of this connection made again
  });
  let info: string;
  try {
    info = await Promise.race([greeting(redis), silence()]);
    connected = true;
  } catch (error) {
    redis.disconnect();
    const said = (trouble ?? (error as Error)).message.split('\n')[0];
    const why = said.startsWith('NOAUTH') ? 'it asks for a password' : said;
    throw new Failure(`Redis at ${where} can't be used: ${why.replace(/\.$/, '')}.`);
  }
  const obstacle = unsuited(info);
  if (obstacle === undefined) return redis;
  redis.disconnect();
  throw new UserError(`Redis at ${where} ${obstacle}.`);
}

async function greeting(redis: Redis): Promise<string> {
  await redis.connect();
  await redis.select(redis.options.db ?? 0); // without an answer of its own a number that is too large means database 0
  return redis.info();
}

async function silence(): Promise<never> {
  await sleep(ANSWER_MS, undefined, { ref: false });
  throw new Error(`no answer in ${ANSWER_MS / 1000} s`);
}

/** What Redis says no to later, as one does whose memory is full, is a Failure that says so; anything else stays what it is. */
export function explained(error: unknown, where: string): unknown {
  return error instanceof ReplyError
    ? new Failure(`Redis at ${where} refuses: ${(error as Error).message.replace(/\.$/, '')}.`)
    : error;
}

/** Connects to the queue of an environment for as long as `work` takes. */
export async function inQueue<T>(
  { url, environment, say }: { url: string; environment: Environment; say(line: string): void },
  work: (queue: TrialQueue, redis: Redis) => Promise<T>,
): Promise<T> {
  const redis = await openRedis(url, say);
  const queue: TrialQueue = new Queue<TrialJob, Delivery>(queueName(environment), {
    connection: redis,
    prefix: PREFIX,
  });
  queue.on('error', () => {}); // told by `openRedis`
  try {
    return await work(queue, redis);
  } catch (error) {
    throw explained(error, address(url));
  } finally {
    redis.disconnect();
  }
}

/** Why a Redis, by what it says of itself, can't keep a queue. */
export function unsuited(info: string): string | undefined {
  const value = (key: string): string => new RegExp(`^${key}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? 'unknown';
  const version = value('redis_version');
  const [major, minor] = version.split('.').map(Number);
  if (!(major > 6 || (major === 6 && minor >= 2))) return `is version ${version}: 6.2 or later is needed`;
  const policy = value('maxmemory_policy');
  if (policy === 'noeviction') return undefined;
  return `has the maxmemory-policy ${policy}, by which it may forget trials: noeviction is needed (CONFIG SET maxmemory-policy noeviction)`;
}

/** The value itself is never repeated: it may hold a password. */
function parse(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (
    parsed &&
    ['redis:', 'rediss:'].includes(parsed.protocol) &&
    parsed.hostname &&
    /^(\/\d*)?$/.test(parsed.pathname)
  )
    return parsed;
  throw new UserError(
    'The address of Redis is expected as redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER], or rediss://… .',
  );
}
