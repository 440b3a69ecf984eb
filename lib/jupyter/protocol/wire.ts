import { readFileSync } from 'node:fs';
import { Session as Inspector } from 'node:inspector';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import type { KernelMessage } from '@jupyterlab/services';
import type { Router } from 'zeromq';
import { z } from 'zod';
import { Failure, UserError } from '../../util/errors';
import { parseOptions } from '../../util/options';
import { type Connection, connectionSchema } from './connection';
import { History, historySchema } from './history';
import { Iopub } from './iopub';
import { kernelInfo } from './kernelInfo';
import { lastWords, logIsStuck } from './log';
import {
  type Content,
  type ContentOf,
  encode,
  type Header,
  type MalformedMessage,
  type Message,
  newHeader,
} from './message';
import { Outbox } from './outbox';
import { LINGER_MS, Sockets } from './sockets';
import { type Answers, Flag, type FromSession, type InputAnswer, type ToSession, type WireData } from './threads';
import { Transcript } from './transcript';
import { Usage } from './usage';

interface Request {
  message: Message;
  replies: Outbox;
}

type Reply = { status: string } | { status: string; [field: string]: unknown };

/** The cell that runs. */
interface Execution {
  message: Message;
  allowStdin: boolean;
  /** What it asks the person at the front end. */
  input?: number;
}

const executeSchema = z.object({
  code: z.string(),
  silent: z.boolean().default(false),
  store_history: z.boolean().default(true),
  stop_on_error: z.boolean().default(true),
  allow_stdin: z.boolean().default(true),
  user_expressions: z.record(z.string(), z.string()).nullish(),
});

/** A main thread in a training step is given this long to notice an interrupt by itself: what V8 ends cannot clean up after itself. */
const PATIENCE_MS = 2000;

const port = parentPort!;
const {
  connectionFile,
  flags: sharedFlags,
  markKey,
  language,
  answers,
  history: historyFolder,
} = workerData as WireData;
const flags = new Int32Array(sharedFlags);

/**
 * The kernel's thread for the wire protocol: the queue of requests, their answers, interrupts, the end.
 * It is a thread of its own so that output flows, the heart beats, and an interrupt or a dead parent is noticed while a cell
 * keeps the main thread busy for minutes.
 */
class Wire {
  private readonly sockets: Sockets;
  private readonly iopub: Iopub;
  private readonly outboxes: Record<'shell' | 'control' | 'stdin', Outbox>;
  private readonly history = new History(historyFolder);
  private readonly usage = new Usage();

  private readonly queue: Request[] = [];
  private answering = false;
  private execution: Execution | undefined;
  /** Outputs of nobody known belong to this request, also when they come after its reply. */
  private latest: Header | undefined;
  private executionCount = 0;
  private answered: ((answer: Answers[keyof Answers]) => void) | undefined;
  private interrupting = false;
  /** What the session was asked to execute: an output may come long after the reply. */
  private readonly requests = new Map<number, Header>();
  private requestCount = 0;
  private readonly transcript = new Transcript(
    markKey,
    (name, text, request) => this.iopub.write(name, text, this.ownerOf(request)),
    () => void this.exit(),
  );

  constructor(private readonly connection: Connection) {
    this.sockets = new Sockets(connection);
    const { shell_port, control_port, stdin_port, iopub_port } = this.sockets;
    this.iopub = new Iopub(iopub_port, connection.key);
    this.outboxes = { shell: new Outbox(shell_port), control: new Outbox(control_port), stdin: new Outbox(stdin_port) };
    port.on('message', (message: FromSession) => {
      if (message.kind === 'interrupting') this.interrupting = true;
      else if (message.kind === 'closed') this.transcript.close(message.name);
      else this.transcript.add(message.mark, () => this.fromSession(message));
    });
  }

  async start(): Promise<void> {
    await this.sockets.bind(connectionFile);
    const { shell, control, stdin } = this.outboxes;
    const { shell_port, control_port, stdin_port } = this.sockets;
    this.listen(shell_port, shell, message => {
      this.queue.push({ message, replies: shell });
      void this.answerQueue();
    });
    this.listen(control_port, control, message => void this.answer({ message, replies: control }));
    this.listen(stdin_port, stdin, ({ header, content }) => {
      if (header.msg_type === 'input_reply') this.endInput({ value: String(content.value ?? '') });
    });
    void this.iopub.welcome();
    void this.sockets.beat();
    this.watchParent();
  }

  private listen(socket: Router, replies: Outbox, accept: (message: Message) => void): void {
    const refuse = ({ identities, header, message: evalue }: MalformedMessage): void => {
      const message = { identities, header, parent: {}, metadata: {}, content: {} };
      this.send({ message, replies }, errorReply('MalformedMessage', evalue));
    };
    void this.sockets.listen(socket, accept, refuse);
  }

  /** A kernel whose front end was killed would stay for ever: nobody is left to shut it down. */
  private watchParent(): void {
    const parent = process.ppid;
    setInterval(() => {
      if (process.ppid !== parent) void this.exit();
    }, 1000);
  }

  private async close(): Promise<void> {
    const flushed = [this.iopub.flushed(), ...Object.values(this.outboxes).map(outbox => outbox.flushed())];
    await Promise.race([Promise.all(flushed), sleep(1000)]); // a front end that does not read can't keep the kernel
    this.sockets.close();
    // What waits at a socket is refused in the loop's next turns; zeromq aborts a process that ends before.
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    Atomics.store(flags, Flag.closed, 1);
    Atomics.notify(flags, Flag.closed);
  }

  private async exit(): Promise<void> {
    await this.close();
    // A kill, unlike an exit, does not wait for what zeromq has not sent yet, the last replies.
    if (logIsStuck()) await sleep(LINGER_MS);
    else {
      this.toSession({ kind: 'exit' });
      await this.blocked(() => false, LINGER_MS); // a cell that keeps the main thread cannot hear this
    }
    process.kill(process.pid, 'SIGKILL');
  }

  private toSession(message: ToSession): void {
    port.postMessage(message);
  }

  private fromSession(message: Extract<FromSession, { mark: number }>): void {
    switch (message.kind) {
      case 'stream':
        this.iopub.write(message.name, message.text, this.ownerOf(message.request));
        break;
      case 'publish':
        this.iopub.publish(message.type, message.content, this.ownerOf(message.request));
        break;
      case 'input':
        void this.askForInput(message.id, message.prompt);
        break;
      case 'reply':
        this.iopub.flush();
        this.answered?.(message.content);
        break;
      case 'close':
        void this.close();
    }
  }

  private ownerOf(request: number | undefined): Header | undefined {
    return this.requests.get(request ?? 0) ?? this.latest;
  }

  private async answerQueue(): Promise<void> {
    if (this.answering) return;
    this.answering = true;
    for (let request = this.queue.shift(); request; request = this.queue.shift()) {
      const content = await this.answer(request);
      const { header, content: asked } = request.message;
      const failed = header.msg_type === 'execute_request' && content?.status === 'error';
      if (failed && asked.stop_on_error !== false) this.abortQueue(header.session);
    }
    this.answering = false;
  }

  /** After a failed cell the cells that its front end has asked for already don't run: "Run All" stops there. Other requests stay. */
  private abortQueue(session: string): void {
    for (const request of this.queue.splice(0)) {
      const { header } = request.message;
      if (header.msg_type === 'execute_request' && header.session === session)
        this.send(request, { status: 'aborted' });
      else this.queue.push(request);
    }
  }

  private async answer(request: Request): Promise<Reply | undefined> {
    const { header } = request.message;
    this.iopub.publish('status', { execution_state: 'busy' }, header);
    const content = await this.handle(request.message).catch((error: Error) => errorReply(error.name, error.message));
    if (content) this.reply(request, content);
    this.iopub.publish('status', { execution_state: 'idle' }, header);
    if (header.msg_type === 'shutdown_request') void this.exit();
    return content;
  }

  private send(request: Request, content: Reply): void {
    const { header } = request.message;
    this.iopub.publish('status', { execution_state: 'busy' }, header);
    this.reply(request, content);
    this.iopub.publish('status', { execution_state: 'idle' }, header);
  }

  private reply({ message, replies }: Request, content: Reply): void {
    const { msg_type, session, username } = message.header;
    const header = newHeader(`${msg_type.replace(/_request$/, '')}_reply`, session, username);
    const { identities, header: parent } = message;
    replies.push(encode(this.connection.key, { identities, header, parent, metadata: {}, content }));
  }

  /** The reply's content; nothing for a message that wants none. Throws what is wrong with the request. */
  private async handle(message: Message): Promise<Reply | undefined> {
    const { header, content } = message;
    switch (header.msg_type) {
      case 'kernel_info_request':
        return kernelInfo(language);
      case 'execute_request':
        return this.execute(message);
      case 'complete_request':
      case 'inspect_request':
      case 'is_complete_request':
        return this.ask(header.msg_type, content);
      case 'history_request':
        return { status: 'ok', history: this.history.find(parseOptions(historySchema, content, 'history_request')) };
      case 'comm_info_request':
        return { status: 'ok', comms: {} };
      case 'comm_open': // no target is known
        this.iopub.publish('comm_close', { comm_id: String(content.comm_id ?? ''), data: {} }, header);
        return undefined;
      case 'interrupt_request':
        void this.interrupt();
        return { status: 'ok' };
      case 'shutdown_request':
        return { status: 'ok', restart: content.restart === true };
      case 'usage_request':
        return this.usage.report();
      default: {
        if (!header.msg_type.endsWith('_request')) return undefined;
        return errorReply('UnknownMessage', `This kernel does not know ${header.msg_type.slice(0, 100)}.`);
      }
    }
  }

  private async execute(message: Message): Promise<ContentOf<'execute_reply'>> {
    const request = parseOptions(executeSchema, message.content, 'execute_request');
    const { code, silent, store_history, allow_stdin, user_expressions } = request;
    const counts = !silent && store_history;
    if (counts) this.history.add(++this.executionCount, code);
    const { header } = message;
    this.latest = header;
    if (!silent) this.iopub.publish('execute_input', { code, execution_count: this.executionCount }, header);
    const help = await this.help(code);
    if (help) return { status: 'ok', execution_count: this.executionCount, user_expressions: {}, payload: [help] };
    this.execution = { message, allowStdin: allow_stdin };
    const outcome = await this.ask('execute_request', { code }, counts ? this.executionCount : 0);
    this.endInput({ ended: 'over' });
    this.execution = undefined;
    if (outcome.status === 'error') {
      const { ename, evalue, traceback } = outcome;
      this.iopub.publish('error', { ename, evalue, traceback }, header);
      return { ...outcome, execution_count: this.executionCount };
    }
    const { result } = outcome;
    if (result && !silent) {
      if (counts) this.history.result(this.executionCount, String(result.data['text/plain'] ?? ''));
      this.iopub.publish('execute_result', { ...result, execution_count: this.executionCount }, header);
    }
    return {
      status: 'ok',
      execution_count: this.executionCount,
      user_expressions: (await this.evaluate(
        user_expressions ?? {},
      )) as KernelMessage.IExecuteReply['user_expressions'],
      payload: [],
    };
  }

  private async evaluate(expressions: Record<string, string>): Promise<Content> {
    const values: Content = {};
    for (const [name, code] of Object.entries(expressions)) {
      const outcome = await this.ask('execute_request', { code });
      values[name] = outcome.status === 'ok' ? { status: 'ok', data: {}, metadata: {}, ...outcome.result } : outcome;
    }
    return values;
  }

  /** `name?` opens what is known of the name in the front end's pager, as in IPython. */
  private async help(code: string): Promise<NonNullable<KernelMessage.IExecuteReply['payload']>[number] | undefined> {
    const [, name] = /^\s*([\w$.]+)\?\s*$/.exec(code) ?? [];
    if (name === undefined) return undefined;
    const answer = await this.ask('inspect_request', { code: name, cursor_pos: name.length });
    return answer.status === 'ok' && answer.found ? { source: 'page', data: answer.data, start: 0 } : undefined;
  }

  /** `cell` names the code in stack traces; 0 is code that belongs to no cell. */
  private async ask<T extends keyof Answers>(type: T, content: Content, cell = 0): Promise<Answers[T]> {
    const reply = new Promise<Answers[T]>(resolve => (this.answered = answer => resolve(answer as Answers[T])));
    const request = ++this.requestCount;
    if (type === 'execute_request' && this.latest) this.requests.set(request, this.latest);
    this.toSession({ kind: 'request', type, content, cell, request });
    const answer = await reply;
    this.answered = undefined;
    return answer;
  }

  private async askForInput(id: number, prompt: string): Promise<void> {
    const { execution } = this;
    if (!execution) return this.tellInput({ id, ended: 'over' });
    if (!execution.allowStdin) return this.tellInput({ id, refused: 'this front end lets cells ask for none' });
    execution.input = id;
    const { identities, header: parent } = execution.message;
    const header = newHeader('input_request', parent.session, parent.username);
    const content = { prompt, password: false };
    const frames = encode(this.connection.key, { identities, header, parent, metadata: {}, content });
    await this.sockets.stdin_port.send(frames).catch(() => this.endInput({ refused: 'the front end does not listen' }));
  }

  private endInput(answer: { value: string } | { refused: string } | { ended: 'interrupted' | 'over' }): void {
    const id = this.execution?.input;
    if (id === undefined) return;
    this.execution!.input = undefined;
    this.tellInput({ id, ...answer });
  }

  private tellInput(answer: InputAnswer): void {
    answers.postMessage(answer);
    Atomics.add(flags, Flag.answers, 1);
    Atomics.notify(flags, Flag.answers);
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
    this.endInput({ ended: 'interrupted' });
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

function errorReply(ename: string, evalue: string): KernelMessage.IReplyErrorContent {
  return { status: 'error', ename, evalue, traceback: [`${ename}: ${evalue}`] };
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
  lastWords(String(error instanceof UserError || error instanceof Failure ? error.message : error.stack));
  process.exit(1);
});
