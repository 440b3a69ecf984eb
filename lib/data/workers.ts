import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Failure } from '../util/errors';
import { type Batch, type BatchRequest, collate } from './collate';
import { pictureReader, type Split } from './dataset';
import type { Message, Reply } from './worker';

/** Makes batches of one split until it is closed. */
export interface BatchMaker {
  make(request: BatchRequest): Promise<Batch>;
  close(): void;
}

/** A thread that lives as long as the process, and keeps it alive only while a batch is awaited. */
interface Thread {
  send(message: Message): void;
  make(job: number, request: BatchRequest): Promise<Batch>;
}

function startThread(): Thread {
  // A worker starts as JavaScript; tsx then lets it load TypeScript, whoever loaded us: tsx, vitest or the notebook kernel.
  const tsx = createRequire(__filename).resolve('tsx/cjs');
  const worker = new Worker(
    `require(${JSON.stringify(tsx)}); require(${JSON.stringify(join(__dirname, 'worker.ts'))});`,
    { eval: true, execArgv: [] },
  );
  worker.unref();
  const waiting = new Map<number, { resolve(batch: Batch): void; reject(error: unknown): void }>();
  const settle = (id: number) => {
    const entry = waiting.get(id)!;
    waiting.delete(id);
    if (waiting.size === 0) worker.unref();
    return entry;
  };
  let end: Error | undefined;
  const die = (error: Error): void => {
    end ??= error;
    if (threads.includes(thread)) threads.splice(threads.indexOf(thread), 1); // the next epoch starts another
    for (const id of [...waiting.keys()]) settle(id).reject(end);
  };
  worker.on('message', (reply: Reply) => {
    const { resolve, reject } = settle(reply.id);
    if ('batch' in reply) resolve(reply.batch);
    else reject('failure' in reply ? new Failure(reply.failure) : reply.error);
  });
  worker.on('error', die);
  worker.on('exit', code => die(new Error(`The thread that loads images ended with exit code ${code}.`)));
  let next = 0;
  const thread: Thread = {
    send: message => worker.postMessage(message),
    make: (job, request) =>
      new Promise((resolve, reject) => {
        if (end) return reject(end);
        const id = next++;
        if (waiting.size === 0) worker.ref();
        waiting.set(id, { resolve, reject });
        worker.postMessage({ kind: 'collate', job, id, request } satisfies Message);
      }),
  };
  return thread;
}

const threads: Thread[] = [];
let jobs = 0;

/** Batches made by `workers` threads in turn; by this thread, synchronously, where that is 0. */
export function batchMaker(split: Split, workers: number): BatchMaker {
  if (workers === 0) {
    const reader = pictureReader(split);
    return { make: async request => collate(split, reader, request), close: () => reader.close() };
  }
  while (threads.length < workers) threads.push(startThread());
  const team = threads.slice(0, workers);
  const job = jobs++;
  for (const thread of team) thread.send({ kind: 'open', job, split });
  let turn = 0;
  return {
    make: request => team[turn++ % team.length].make(job, request),
    close: () => team.forEach(thread => thread.send({ kind: 'close', job })),
  };
}
