import { type ChildProcess, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import type { Contender } from '../../lib/measure/latency';
import { threadEnvironment } from '../../lib/util/threads';

/** How a contender's process is started, and what it is asked to prepare (see peers/protocol.py). */
export interface Launch {
  name: string;
  command: string;
  args: readonly string[];
  env?: Record<string, string>;
  prepare: object;
}

/** A contender's process, ready to run. It idles between turns, and ends when its standard input does. */
export interface Running extends Contender {
  versions: Record<string, string>;
  /** What it runs with, in words. */
  settings: string;
  /** Most bytes that were ever resident. */
  peakRss(): Promise<number>;
  ask<T extends z.ZodType>(request: object, reply: T): Promise<z.output<T>>;
  stop(): Promise<void>;
}

/** Threads of every contender. */
export const THREADS = 2;

const ready = z.object({
  ready: z.object({ versions: z.record(z.string(), z.string()).default({}), settings: z.string().default('') }),
});

/** Starts a contender's process and lets it prepare. Throws an Error with its reason where it fails. */
export async function start({ name, command, args, env, prepare }: Launch): Promise<Running> {
  const { ask, stop } = converse(name, spawnPinned(command, args, env));
  try {
    const { versions, settings } = (await ask({ prepare: { ...prepare, threads: THREADS } }, ready)).ready;
    return {
      name,
      versions,
      settings,
      ask,
      stop,
      run: async count =>
        (await ask({ run: count }, z.object({ seconds: z.array(z.number().positive()).length(count) }))).seconds,
      peakRss: async () => (await ask({ rss: true }, z.object({ rss: z.number().positive() }))).rss,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** On a machine with more cores, two of them: TensorFlow has two pools of threads, PyTorch one. */
function spawnPinned(command: string, args: readonly string[], env?: Record<string, string>): ChildProcess {
  const pinned = process.platform === 'linux' && availableParallelism() > THREADS;
  const [file, ...rest] = pinned ? ['taskset', '--cpu-list', `0-${THREADS - 1}`, command, ...args] : [command, ...args];
  return spawn(file, rest, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      ...process.env,
      ...threadEnvironment(THREADS),
      TF_CPP_MIN_LOG_LEVEL: '2',
      ...env,
    },
  });
}

/** One line out, one line in. */
function converse(name: string, child: ChildProcess): Pick<Running, 'ask' | 'stop'> {
  let complaints = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-2000);
  });
  const ended = new Promise<string>(resolve => {
    child.on('error', error => resolve(error.message));
    child.on('close', (code, signal) =>
      resolve(
        `it ended with ${signal ?? `exit code ${code}`}${complaints && `: ${complaints.trim().split('\n').slice(-3).join(' | ')}`}`,
      ),
    );
  });
  child.stdin!.on('error', () => {}); // `ended` says why
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  return {
    async ask(request, schema) {
      child.stdin!.write(`${JSON.stringify(request)}\n`);
      const line = await Promise.race([lines.next(), ended.then(() => undefined)]);
      const text = line?.value as string | undefined;
      if (text === undefined) throw new Error(`${name}: ${await ended}.`);
      const reply = JSON.parse(text) as object;
      if ('error' in reply) throw new Error(`${name}: ${String(reply.error)}`);
      return schema.parse(reply);
    },
    async stop() {
      child.stdin!.end();
      await ended;
    },
  };
}
