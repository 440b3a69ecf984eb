import { readFileSync, writeSync } from 'node:fs';
import { Session as Inspector } from 'node:inspector';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { version as typescriptVersion } from 'typescript/package.json';
import { Publisher, Reply, Router } from 'zeromq';
import { z } from 'zod';
import { version } from '../../../package.json';
import { Failure, UserError } from '../../util/errors';
import { writeFileAtomic } from '../../util/files';
import { parseOptions } from '../../util/options';
import { address, type Connection, connectionSchema, PORTS } from './connection';
import { LOG } from './descriptors';
import { type Content, decode, encode, type Message, newHeader, PROTOCOL_VERSION } from './message';
import { Outbox } from './outbox';
import { Flag, type FromSession, type ToSession, type WireData } from './threads';
import { Transcript } from './transcript';

interface Request {
  message: Message;
  replies: Outbox;
}

const executeSchema = z.object({
  code: z.string(),
  silent: z.boolean().default(false),
  store_history: z.boolean().default(true),
  stop_on_error: z.boolean().default(true),
});

const KERNEL_INFO = {
  status: 'ok',
  protocol_version: PROTOCOL_VERSION,
  implementation: 'edgevit-lab',
  implementation_version: version,
  banner: `EdgeViT Lab ${version}, TypeScript ${typescriptVersion}`,
  language_info: {
    name: 'typescript',
    version: typescriptVersion,
    mimetype: 'text/typescript',
    file_extension: '.ts',
    pygments_lexer: 'typescript',
    codemirror_mode: { name: 'javascript', mode: 'typescript', typescript: true },
  },
};

/** A main thread in a training step is given this long to notice an interrupt by itself: what V8 ends cannot clean up after itself. */
const PATIENCE_MS = 2000;

const port = parentPort!;
const { connectionFile, flags: sharedFlags, markKey } = workerData as WireData;
const flags = new Int32Array(sharedFlags);

/**
 * The kernel's thread for the wire protocol: sockets, signatures, the queue of requests, heartbeat, interrupts.
 * It is a thread of its own so that output flows, the heart beats, and an interrupt or a dead parent is noticed while a cell
 * keeps the main thread busy for minutes.
 */
class Wire {
  private readonly iopubSocket = new Publisher({ linger: 1000, sendHighWaterMark: 0 });
  private readonly iopub = new Outbox(this.iopubSocket);
  private readonly shell = new Router({ linger: 1000 });
  private readonly control = new Router({ linger: 1000 });
  private readonly stdin = new Router({ linger: 0 });
  private readonly heartbeat = new Reply({ linger: 0 });
  private readonly outboxes = [this.iopub];

  private readonly queue: Request[] = [];
  private answering = false;
  /** Outputs belong to this request, also when they come after its reply. */
  private executing: Message | undefined;
  private executionCount = 0;
  private answered: ((content: Content) => void) | undefined;
  private interrupting = false;
  private stream = {
    name: '',
    text: '',
    parent: undefined as Message | undefined,
    timer: undefined as NodeJS.Timeout | undefined,
  };
  /** What the session was asked to execute: an output may come long after the reply. */
  private readonly requests = new Map<number, Message>();
  private requestCount = 0;
  private readonly transcript = new Transcript(
    markKey,
    (name, text, request) => this.write(name, text, this.requests.get(request ?? 0)),
    () => void this.exit(),
  );

  constructor(private readonly connection: Connection) {
    port.on('message', (message: FromSession) => {
      if (message.kind === 'interrupting') this.interrupting = true;
      else if (message.kind === 'closed') this.transcript.close(message.name);
      else this.transcript.add(message.mark, () => this.fromSession(message));
    });
  }

  async start(): Promise<void> {
    const sockets = {
      shell_port: this.shell,
      iopub_port: this.iopubSocket,
      stdin_port: this.stdin,
      control_port: this.control,
      hb_port: this.heartbeat,
    };
    // All have to end before anything else does: zeromq aborts a process that leaves in the meantime.
    const bound = await Promise.allSettled(
      PORTS.map(async name => {
        const where = address(this.connection, this.connection[name]);
        await sockets[name].bind(where).catch((error: Error) => {
          throw new Failure(`its ${name} ${where} can't be used: ${error.message}`);
        });
      }),
    );
    const failed = bound.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined;
    if (failed) {
      for (const socket of Object.values(sockets)) socket.close();
      throw failed.reason;
    }
    if (PORTS.some(name => this.connection[name] === 0)) {
      const free = PORTS.map(name => [name, Number(/\d+$/.exec(sockets[name].lastEndpoint ?? '')?.[0])] as const);
      Object.assign(this.connection, Object.fromEntries(free));
      const told = JSON.parse(readFileSync(connectionFile, 'utf8')) as object;
      writeFileAtomic(connectionFile, JSON.stringify({ ...told, ...Object.fromEntries(free) }));
    }
    void this.listen(this.shell, request => {
      this.queue.push(request);
      void this.answerQueue();
    });
    void this.listen(this.control, request => void this.answer(request));
    void this.beat();
    this.watchParent();
  }

  private async listen(socket: Router, accept: (request: Request) => void): Promise<void> {
    const replies = new Outbox(socket);
    this.outboxes.push(replies);
    for await (const frames of socket) {
      let message: Message;
      try {
        message = decode(this.connection.key, frames);
      } catch (error) {
        writeSync(LOG, `edgevit-lab kernel: refused ${(error as Error).message}\n`);
        continue;
      }
      accept({ message, replies });
    }
  }

  private async beat(): Promise<void> {
    for await (const frames of this.heartbeat) await this.heartbeat.send(frames);
  }

  /** A kernel whose front end was killed would stay for ever: nobody is left to shut it down. */
  private watchParent(): void {
    const parent = process.ppid;
    setInterval(() => {
      if (process.ppid !== parent) void this.exit();
    }, 1000);
  }

  private async close(): Promise<void> {
    this.flushStream();
    await Promise.all(this.outboxes.map(outbox => outbox.flushed()));
    for (const socket of [this.iopubSocket, this.shell, this.control, this.stdin, this.heartbeat]) socket.close();
    Atomics.store(flags, Flag.closed, 1);
    Atomics.notify(flags, Flag.closed);
  }

  private async exit(): Promise<void> {
    await this.close();
    this.toSession({ kind: 'exit' });
    await this.blocked(() => false, 1000); // a cell that keeps the main thread cannot hear this
    process.kill(process.pid, 'SIGKILL');
  }

  private toSession(message: ToSession): void {
    port.postMessage(message);
  }

  private fromSession(message: Extract<FromSession, { mark: number }>): void {
    switch (message.kind) {
      case 'stream':
        this.write(message.name, message.text, this.requests.get(message.request ?? 0));
        break;
      case 'publish':
        this.flushStream();
        this.publish(message.type, message.content, this.requests.get(message.request ?? 0));
        break;
      case 'reply':
        this.flushStream();
        this.answered?.(message.content);
        break;
      case 'close':
        void this.close();
    }
  }

  /** A cell may print 100,000 lines: what comes within 30 ms goes out as one message. */
  private write(name: string, text: string, parent = this.executing): void {
    if (name !== this.stream.name || parent !== this.stream.parent) this.flushStream();
    Object.assign(this.stream, { name, parent });
    this.stream.text += text;
    if (this.stream.text.length > 1 << 16) this.flushStream();
    else this.stream.timer ??= setTimeout(() => this.flushStream(), 30);
  }

  private flushStream(): void {
    const { name, text, parent, timer } = this.stream;
    clearTimeout(timer);
    this.stream = { name: '', text: '', parent: undefined, timer: undefined };
    if (text !== '') this.publish('stream', { name, text }, parent);
  }

  private publish(type: string, content: Content, parent = this.executing): void {
    const { session, username } = parent?.header ?? { session: '', username: '' };
    const header = newHeader(type, session, username);
    this.iopub.push(
      encode(this.connection.key, {
        identities: [Buffer.from(type)],
        header,
        parent: parent?.header ?? {},
        metadata: {},
        content,
      }),
    );
  }

  private async answerQueue(): Promise<void> {
    if (this.answering) return;
    this.answering = true;
    for (let request = this.queue.shift(); request; request = this.queue.shift()) {
      const content = await this.answer(request);
      if (content?.status === 'error' && request.message.content.stop_on_error !== false) this.abortQueue();
    }
    this.answering = false;
  }

  /** After a failed cell the cells that were already asked for don't run: "Run All" stops there. Other requests stay. */
  private abortQueue(): void {
    for (const request of this.queue.splice(0)) {
      if (request.message.header.msg_type === 'execute_request') this.send(request, { status: 'aborted' });
      else this.queue.push(request);
    }
  }

  private async answer(request: Request): Promise<Content | undefined> {
    this.publish('status', { execution_state: 'busy' }, request.message);
    const content = await this.handle(request.message);
    if (content) this.reply(request, content);
    this.publish('status', { execution_state: 'idle' }, request.message);
    if (request.message.header.msg_type === 'shutdown_request') void this.exit();
    return content;
  }

  private send(request: Request, content: Content): void {
    this.publish('status', { execution_state: 'busy' }, request.message);
    this.reply(request, content);
    this.publish('status', { execution_state: 'idle' }, request.message);
  }

  private reply({ message, replies }: Request, content: Content): void {
    const header = newHeader(
      message.header.msg_type.replace(/_request$/, '_reply'),
      message.header.session,
      message.header.username,
    );
    replies.push(
      encode(this.connection.key, {
        identities: message.identities,
        header,
        parent: message.header,
        metadata: {},
        content,
      }),
    );
  }

  /** The reply's content; nothing for a message that wants none, or that this kernel does not know. */
  private async handle(message: Message): Promise<Content | undefined> {
    const { content } = message;
    switch (message.header.msg_type) {
      case 'kernel_info_request':
        return KERNEL_INFO;
      case 'execute_request':
        return this.execute(message);
      case 'complete_request':
      case 'inspect_request':
      case 'is_complete_request':
        return this.ask(message.header.msg_type, content);
      case 'history_request':
        return { status: 'ok', history: [] };
      case 'comm_info_request':
        return { status: 'ok', comms: {} };
      case 'interrupt_request':
        void this.interrupt();
        return { status: 'ok' };
      case 'shutdown_request':
        return { status: 'ok', restart: content.restart === true };
    }
  }

  private async execute(message: Message): Promise<Content> {
    const parsed = executeSchema.safeParse(message.content);
    if (!parsed.success)
      return {
        status: 'error',
        ename: 'ProtocolError',
        evalue: z.prettifyError(parsed.error),
        traceback: [],
        execution_count: this.executionCount,
      };
    const { code, silent, store_history } = parsed.data;
    const counts = !silent && store_history;
    if (counts) this.executionCount++;
    this.executing = message;
    if (!silent) this.publish('execute_input', { code, execution_count: this.executionCount });
    const { result, ...outcome } = await this.ask('execute_request', { code }, counts ? this.executionCount : 0);
    if (result && !silent)
      this.publish('execute_result', { ...(result as Content), execution_count: this.executionCount });
    if (outcome.status === 'error') {
      const { ename, evalue, traceback } = outcome;
      this.publish('error', { ename, evalue, traceback });
    }
    return { ...outcome, execution_count: this.executionCount, user_expressions: {}, payload: [] };
  }

  /** `cell` names the code in stack traces; 0 is code that belongs to no cell. */
  private async ask(type: string, content: Content, cell = 0): Promise<Content> {
    const reply = new Promise<Content>(resolve => (this.answered = resolve));
    const request = ++this.requestCount;
    if (type === 'execute_request' && this.executing)
      this.requests.set(request, { ...this.executing, content: {}, identities: [] });
    this.toSession({ kind: 'request', type, content, cell, request });
    const answer = await reply;
    this.answered = undefined;
    return answer;
  }

  /**
   * Asks first: a main thread that waits for something ends the cell itself. One that is caught in a loop of the cell's cannot hear,
   * so V8 ends what it runs. The kernel's own code (the compiler) is never ended so; it comes to an end by itself.
   */
  private async interrupt(): Promise<void> {
    const asked = this.answered;
    if (!asked) return;
    this.interrupting = false;
    this.toSession({ kind: 'interrupt' });
    if (!(await this.blocked(() => this.answered !== asked || this.interrupting, PATIENCE_MS))) return;
    await terminateMainThread();
    this.toSession({ kind: 'terminated' });
  }

  /** Whether code of a cell keeps the main thread for so long, before `heard` says that it has got the message. */
  private async blocked(heard: () => boolean, milliseconds: number): Promise<boolean> {
    for (let waited = 0; waited < milliseconds; ) {
      await sleep(50);
      if (heard()) return false;
      waited = Atomics.load(flags, Flag.userCodeRuns) === 1 ? waited + 50 : 0;
    }
    return true;
  }
}

async function terminateMainThread(): Promise<void> {
  const inspector = new Inspector();
  inspector.connectToMainThread();
  await new Promise(resolve => inspector.post('Runtime.terminateExecution', resolve));
  inspector.disconnect();
}

async function main(): Promise<void> {
  const connection = parseOptions(
    connectionSchema,
    JSON.parse(readFileSync(connectionFile, 'utf8')),
    `The connection file ${connectionFile}`,
  );
  await new Wire(connection).start();
}

main().catch((error: Error) => {
  writeSync(
    LOG,
    `edgevit-lab kernel: ${error instanceof UserError || error instanceof Failure ? error.message : error.stack}\n`,
  );
  process.exit(1);
});
