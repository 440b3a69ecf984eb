import { writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { Worker } from 'node:worker_threads';
import { ROOT } from '../../util/root';
import { provideKernelOutput } from '../display/output';
import type { Content } from '../protocol/message';
import { Flag, type FromSession, type ToSession, type WireData } from '../protocol/threads';
import { Session } from './session';

/**
 * The kernel's main thread: runs the cells, one request at a time, and sends all they write to the thread of the wire protocol.
 */
const [, , connectionFile] = process.argv;
if (!connectionFile) {
  writeSync(2, 'A Jupyter front end starts this kernel with the path of a connection file.\n');
  process.exit(2);
}

const workerData: WireData = { connectionFile: resolve(connectionFile), flags: new SharedArrayBuffer(8) };
const flags = new Int32Array(workerData.flags);
process.chdir(ROOT); // tslab resolves everything from the working directory

const wire = new Worker(join(__dirname, 'launcher.cjs'), { workerData, stdout: true, stderr: true });
const send = (message: FromSession): void => wire.postMessage(message);
const publish = (type: string, content: object): void => send({ kind: 'publish', type, content: content as Content });

const session = new Session(
  ROOT,
  runs => Atomics.store(flags, Flag.userCodeRuns, Number(runs)),
  failure => publish('error', failure),
);

async function answer(type: string, content: Content, cell: number): Promise<Content> {
  const code = String(content.code ?? '');
  const position = Number(content.cursor_pos ?? 0);
  switch (type) {
    case 'execute_request':
      return session.execute(code, cell);
    case 'complete_request':
      return { status: 'ok', ...session.complete(code, position), metadata: {} };
    case 'inspect_request': {
      const text = session.inspect(code, position);
      return {
        status: 'ok',
        found: text !== undefined,
        data: text === undefined ? {} : { 'text/plain': text },
        metadata: {},
      };
    }
    default: {
      const { completed, indent = '' } = session.isComplete(code);
      return completed ? { status: 'complete' } : { status: 'incomplete', indent };
    }
  }
}

wire.on('message', (message: ToSession) => {
  switch (message.kind) {
    case 'request':
      answer(message.type, message.content, message.cell)
        .catch(
          (error: Error): Content => ({
            status: 'error',
            ename: error.name,
            evalue: error.message,
            traceback: [String(error.stack)],
          }),
        )
        .then(content => send({ kind: 'reply', content }));
      break;
    case 'interrupt':
      session.interrupt();
      send({ kind: 'interrupting' });
      break;
    case 'terminated':
      listenForSigint(); // vm takes the listeners away while a cell runs, and was ended before it gave them back
      session.terminated();
      break;
    case 'exit':
      process.exit(0);
  }
});

wire.on('error', error => writeSync(2, `edgevit-lab kernel: ${error.stack}\n`));
wire.on('exit', code => {
  Atomics.store(flags, Flag.closed, 1);
  process.exit(code);
});
process.on('exit', () => {
  send({ kind: 'close' });
  Atomics.wait(flags, Flag.closed, 0, 2000);
});

const onSigint = (): void => session.interrupt();
function listenForSigint(): void {
  process.off('SIGINT', onSigint).on('SIGINT', onSigint);
}
listenForSigint();
process.on('uncaughtException', error => session.backgroundError(error));
process.on('unhandledRejection', reason => session.backgroundError(reason));

for (const name of ['stdout', 'stderr'] as const) {
  const decoder = new StringDecoder();
  process[name].write = (chunk: string | Uint8Array, encoding?: unknown, callback?: unknown): boolean => {
    send({ kind: 'stream', name, text: typeof chunk === 'string' ? chunk : decoder.write(Buffer.from(chunk)) });
    const done = typeof encoding === 'function' ? encoding : callback;
    if (typeof done === 'function') process.nextTick(done);
    return true;
  };
}

const displayData = (content: { data: object; metadata?: object; transient?: object }, update = false): void =>
  publish(update ? 'update_display_data' : 'display_data', { metadata: {}, transient: {}, ...content });
provideKernelOutput({
  display: (data, { id, update } = {}) =>
    displayData({ data, transient: id === undefined ? {} : { display_id: id } }, update),
  settle: work => session.settle(work),
  signal: () => session.signal,
});
(require('tslab/dist/jupyter.js') as { lastWriteDisplayData: typeof displayData }).lastWriteDisplayData = displayData; // for `import { display } from 'tslab'`
