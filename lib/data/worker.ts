import { parentPort } from 'node:worker_threads';
import { Failure } from '../util/errors';
import { type Batch, type BatchRequest, collate } from './collate';
import { type PictureReader, pictureReader, type Split } from './dataset';

/** What a worker thread is asked: to open a split under a number, to make a batch of it, to close it. */
export type Message =
  | { kind: 'open'; job: number; split: Split }
  | { kind: 'collate'; job: number; id: number; request: BatchRequest }
  | { kind: 'close'; job: number };

/** A Failure crosses threads as its sentence: a structured clone forgets the class. */
export type Reply = { id: number; batch: Batch } | { id: number; failure: string } | { id: number; error: unknown };

const port = parentPort!;
const jobs = new Map<number, { split: Split; reader: PictureReader }>();

function makeBatch(job: number, request: BatchRequest): Batch {
  const { split, reader } = jobs.get(job)!;
  return collate(split, reader, request);
}

port.on('message', (message: Message) => {
  if (message.kind === 'open') {
    // Opened at the first batch, so that an error has a reply to travel in.
    let opened: PictureReader | undefined;
    jobs.set(message.job, {
      split: message.split,
      reader: { read: i => (opened ??= pictureReader(message.split)).read(i), close: () => opened?.close() },
    });
  } else if (message.kind === 'close') {
    jobs.get(message.job)?.reader.close();
    jobs.delete(message.job);
  } else {
    try {
      const batch = makeBatch(message.job, message.request);
      port.postMessage({ id: message.id, batch } satisfies Reply, [
        batch.images.buffer as ArrayBuffer,
        batch.targets.buffer as ArrayBuffer,
      ]);
    } catch (error) {
      port.postMessage(
        (error instanceof Failure
          ? { id: message.id, failure: error.message }
          : { id: message.id, error }) satisfies Reply,
      );
    }
  }
});
