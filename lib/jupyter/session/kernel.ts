import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { MessageChannel, Worker } from 'node:worker_threads';
import type { KernelMessage } from '@jupyterlab/services';
import { userJupyter } from '../../util/jupyter';
import { toJson } from '../display/json';
import { provideKernelOutput } from '../display/output';
import { knowTensorsOf } from '../display/rich';
import { NAMES } from '../protocol/descriptors';
import { Input } from '../protocol/input';
import { lastWords } from '../protocol/log';
import type { Content, ContentOf } from '../protocol/message';
import {
  type Answers,
  Flag,
  type FromSession,
  type Published,
  type ToSession,
  type WireData,
} from '../protocol/threads';
import { provideConsole } from './console';
import { provideGlobals } from './globals';
import { placeOf } from './place';
import { Session } from './session';
import { provideStdin } from './stdin';
import { Streams } from './streams';
import { tslabModule } from './tslab';

/**
 * The kernel's main thread: runs the cells, one request at a time, and sends all they write to the thread of the wire protocol. The
 * folder that it is started in is the notebook's.
 */
const [, , connectionFile, ...flagNames] = process.argv;
if (!connectionFile) {
  lastWords('a Jupyter front end starts it with the path of a connection file');
  process.exit(2);
}
const place = placeOf(process.cwd());
const language = flagNames.includes('--js') ? 'javascript' : 'typescript';
const markKey = randomBytes(16).toString('hex');
const answers = new MessageChannel();
const workerData: WireData = {
  connectionFile: resolve(connectionFile),
  flags: new SharedArrayBuffer(12),
  markKey,
  language,
  answers: answers.port2,
  history: flagNames.includes('--no-history') ? undefined : join(userJupyter(), 'edgevit-lab', 'history'),
};
const flags = new Int32Array(workerData.flags);
Error.stackTraceLimit = 100; // ten frames of lib hide the cell

const wire = new Worker(join(__dirname, 'threads.cjs'), {
  workerData,
  transferList: [answers.port2],
  stdout: true,
  stderr: true,
});
const send = (message: FromSession): void => wire.postMessage(message);

const streams: Streams = new Streams({
  key: markKey,
  request: () => session.request,
  clean: text => session.cleanStacks(text),
  onClose: name => send({ kind: 'closed', name }),
  onText: (name, text, mark) => send({ kind: 'stream', name, text, request: session.request, mark }),
});

const publish = <T extends Published>(type: T, content: ContentOf<T>, request = session.request): void =>
  send({ kind: 'publish', type, content: content as ContentOf<Published>, request, mark: streams.mark() });

const display: Parameters<typeof provideKernelOutput>[0]['display'] = (data, { id, update = false } = {}) => {
  const { json, told } = toJson(data);
  for (const line of told) tellOnce(line);
  const transient = id === undefined ? {} : { display_id: id };
  publish(update ? 'update_display_data' : 'display_data', { data: json, metadata: {}, transient });
};

/** A chart that is drawn every second need not say every second what it lacks. */
let toldOf: { request?: number; kinds: Set<string> } = { kinds: new Set() };
function tellOnce(line: string): void {
  const { request } = session;
  if (toldOf.request !== request) toldOf = { request, kinds: new Set() };
  const kind = line.replace(/\d+/g, '#');
  if (toldOf.kinds.has(kind)) return;
  toldOf.kinds.add(kind);
  process.stderr.write(`${line}\n`);
}

const clear = (wait = false): void => publish('clear_output', { wait });

const tslab = tslabModule(display, clear);
const session: Session = new Session({
  place,
  language,
  lenient: flagNames.includes('--lenient'),
  asTslab: flagNames.includes('--tslab'),
  provided: new Map([['tslab', tslab]]),
  onLoad: knowTensorsOf,
  userCodeRuns: runs => Atomics.store(flags, Flag.userCodeRuns, Number(runs)),
  reportLate: (failure, request) => publish('error', failure, request),
  warn: text => process.stderr.write(text),
});

async function answer(
  type: keyof Answers,
  content: Content,
  cell: number,
  request: number,
): Promise<Answers[keyof Answers]> {
  const code = String(content.code ?? '');
  const position = Number(content.cursor_pos ?? 0);
  switch (type) {
    case 'execute_request': {
      stdin.cellBegins();
      printer.endGroups(); // of a cell that failed in the middle of one
      const outcome = await session.execute(code, cell, request);
      if (outcome.status === 'error') return outcome;
      if (!outcome.result) return { status: 'ok' };
      const { json, told } = toJson(outcome.result.data);
      for (const line of told) tellOnce(line);
      return { ...outcome, result: { ...outcome.result, data: json } };
    }
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
    default:
      return session.isComplete(code);
  }
}

/** Of anything, also of what fails while it is described. */
function refusal(error: unknown): KernelMessage.IReplyErrorContent {
  const evalue = error instanceof Error ? `${error.message}` : 'the kernel failed';
  return { status: 'error', ename: 'Error', evalue, traceback: [`Error: ${evalue}`] };
}

wire.on('message', (message: ToSession) => {
  switch (message.kind) {
    case 'request':
      answer(message.type, message.content, message.cell, message.request)
        .catch(refusal)
        .then(content => send({ kind: 'reply', content, mark: streams.mark() }));
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

wire.on('error', error => lastWords(String(error.stack)));
wire.on('exit', code => {
  Atomics.store(flags, Flag.closed, 1);
  process.exit(code);
});
process.on('exit', () => {
  send({ kind: 'close', mark: streams.mark() });
  // A process that ends while the other thread has its sockets open is aborted by zeromq, so patience is for a machine that is busy.
  Atomics.wait(flags, Flag.closed, 0, 10_000);
});

const onSigint = (): void => session.interrupt();
function listenForSigint(): void {
  process.off('SIGINT', onSigint).on('SIGINT', onSigint);
}
listenForSigint();
process.on('uncaughtException', error => session.backgroundError(error));
process.on('unhandledRejection', reason => session.backgroundError(reason));

for (const name of NAMES)
  Object.defineProperty(process, name, {
    value: streams.stream(name),
    configurable: true,
    enumerable: true,
    writable: true,
  });
const printer = provideConsole({ display: data => display(data), cleanStack: error => session.cleanStack(error) });
provideGlobals();
const stdin = provideStdin({
  input: new Input(answers.port1, flags, (id, prompt) => send({ kind: 'input', id, prompt, mark: streams.mark() })),
  takeOpenLine: () => streams.takeOpenLine(),
});
provideKernelOutput({ display, clear, settle: work => session.settle(work), signal: () => session.signal });

// Also for modules beside the notebook that import it.
const tslabPath = require.resolve('tslab');
require.cache[tslabPath] = Object.assign(new (module.constructor as new (id: string) => NodeJS.Module)(tslabPath), {
  exports: tslab,
  filename: tslabPath,
  loaded: true,
});
