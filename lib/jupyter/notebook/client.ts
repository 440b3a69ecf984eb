import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Dealer, Subscriber } from 'zeromq';
import { address, type Connection } from '../protocol/connection';
import { type Content, decode, encode, type Message, newHeader } from '../protocol/message';
import { Outbox } from '../protocol/outbox';

export interface RequestOptions {
  /** Where it goes: interrupts and the end go through `control`, the rest through `shell`. */
  channel?: 'shell' | 'control';
  /** Outputs and states that belong to the request, in order. */
  onOutput?: (message: Message) => void;
  timeoutMs?: number;
}

/** A request got no reply in time. */
export class TimeoutError extends Error {
  override name = 'TimeoutError';
}

/** The kernel's process has ended. */
export class KernelDied extends Error {
  override name = 'KernelDied';
}

interface Waiting {
  message(message: Message, channel: 'reply' | 'iopub'): void;
  fail(error: Error): void;
}

const READY_TIMEOUT_MS = 60_000;
/** A kernel that is still starting hears late. */
const STOP_TIMEOUT_MS = 10_000;
const LOG_LIMIT = 20_000;

/** A kernel process and the connection to it, over the Jupyter wire protocol. */
export class KernelClient {
  /** Called for outputs whose request has been answered already: those of work left in the background. */
  onLateOutput: (message: Message) => void = () => {};
  readonly process: ChildProcess;
  private readonly shell = new Dealer({ linger: 0 });
  private readonly control = new Dealer({ linger: 0 });
  private readonly iopub = new Subscriber({ linger: 0, receiveHighWaterMark: 0 });
  private readonly outboxes = { shell: new Outbox(this.shell), control: new Outbox(this.control) };
  private readonly waiting = new Map<string, Waiting>();
  private readonly session = randomUUID();
  private died: KernelDied | undefined;
  private closing = false;
  private log = '';

  private constructor(
    argv: readonly string[],
    readonly connection: Connection,
    private readonly folder: string,
    environment: NodeJS.ProcessEnv,
    cwd: string | undefined,
  ) {
    const file = join(folder, 'connection.json');
    writeFileSync(file, JSON.stringify({ ...connection, kernel_name: 'edgevit-lab' }), { mode: 0o600 });
    const [command, ...args] = argv.map(word => word.replace('{connection_file}', file));
    this.process = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment, cwd });
    for (const stream of [this.process.stdout!, this.process.stderr!])
      stream.on('data', (text: Buffer) => (this.log = (this.log + text.toString()).slice(-LOG_LIMIT)));
    this.process.on('error', error => this.dead(`the kernel could not start: ${error.message}`));
    this.process.on('close', (code, signal) => this.dead(`the kernel ended (${signal ?? `exit code ${code}`})`));
    this.shell.connect(address(connection, connection.shell_port));
    this.control.connect(address(connection, connection.control_port));
    this.iopub.connect(address(connection, connection.iopub_port));
    this.iopub.subscribe();
    void this.listen(this.shell, 'reply');
    void this.listen(this.control, 'reply');
    void this.listen(this.iopub, 'iopub');
  }

  /**
   * Starts the command `argv`, in which `{connection_file}` stands for the path of the connection file, in the notebook's `folder` (default: the
   * working directory), and waits until it answers.
   */
  static async start(
    argv: readonly string[],
    environment: NodeJS.ProcessEnv = process.env,
    folder?: string,
  ): Promise<KernelClient> {
    const home = mkdtempSync(join(tmpdir(), 'edgevit-kernel-'));
    const kernel = new KernelClient(argv, socketsIn(home), home, environment, folder);
    try {
      await kernel.ready();
    } catch (error) {
      await kernel.stop();
      throw error;
    }
    return kernel;
  }

  /** Resolves with the reply when the kernel has also said that it is idle again, so that all outputs have come. */
  request(
    type: string,
    content: Content = {},
    { channel = 'shell', onOutput = () => {}, timeoutMs }: RequestOptions = {},
  ): Promise<Content> {
    const header = newHeader(type, this.session, 'edgevit-lab');
    return new Promise<Content>((resolve, reject) => {
      let reply: Content | undefined;
      let idle = false;
      const end = (act: () => void): void => {
        clearTimeout(timer);
        this.waiting.delete(header.msg_id);
        act();
      };
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(
              () => end(() => reject(new TimeoutError(`no reply to ${type} within ${timeoutMs / 1000} s`))),
              timeoutMs,
            );
      this.waiting.set(header.msg_id, {
        message: (message, from) => {
          if (from === 'reply') reply = message.content;
          else if (message.header.msg_type === 'status') idle = message.content.execution_state === 'idle';
          else onOutput(message);
          if (reply && idle) end(() => resolve(reply!));
        },
        fail: error => end(() => reject(error)),
      });
      if (this.died) return this.waiting.get(header.msg_id)!.fail(this.died);
      this.outboxes[channel].push(
        encode(this.connection.key, { identities: [], header, parent: {}, metadata: {}, content }),
      );
    });
  }

  interrupt(): Promise<Content> {
    return this.request('interrupt_request', {}, { channel: 'control' });
  }

  /** Ends the kernel, by force if it does not end when asked. */
  async stop(): Promise<void> {
    this.closing = true;
    if (!this.died) {
      const ended = new Promise(resolve => this.process.once('close', resolve));
      const force = setTimeout(() => this.process.kill('SIGKILL'), STOP_TIMEOUT_MS);
      this.request('shutdown_request', { restart: false }, { channel: 'control' }).catch(() => {});
      await ended;
      clearTimeout(force);
    }
    for (const socket of [this.shell, this.control, this.iopub]) socket.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Outputs are lost until the subscription has reached the kernel, so ready is who answers on both channels. */
  private async ready(): Promise<void> {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (;;) {
      try {
        await this.request('kernel_info_request', {}, { timeoutMs: 200 });
        return;
      } catch (error) {
        if (!(error instanceof TimeoutError)) throw error;
        if (Date.now() > deadline)
          throw new TimeoutError(`the kernel did not answer within ${READY_TIMEOUT_MS / 1000} s\n${this.log}`);
      }
    }
  }

  private async listen(socket: Dealer | Subscriber, from: 'reply' | 'iopub'): Promise<void> {
    for await (const frames of socket) {
      let message: Message;
      try {
        message = decode(this.connection.key, frames);
      } catch (error) {
        this.dead(`the kernel sent ${(error as Error).message}`);
        continue;
      }
      const request = this.waiting.get(message.parent.msg_id ?? '');
      if (request) request.message(message, from);
      else if (from === 'iopub' && message.header.msg_type !== 'status') this.onLateOutput(message);
    }
  }

  private dead(why: string): void {
    const [, memory] = /kernel: (out of memory.*)/.exec(this.log) ?? [];
    const log = this.closing || memory ? '' : `\n${this.log}`;
    this.died ??= new KernelDied(`${memory === undefined ? why : `the kernel ended: ${memory}`}${log}`.trimEnd());
    for (const { fail } of [...this.waiting.values()]) fail(this.died);
  }
}

/** Sockets in a folder that only this user can open. */
function socketsIn(folder: string): Connection {
  return {
    transport: 'ipc',
    ip: join(folder, 'kernel'),
    key: randomBytes(32).toString('hex'),
    signature_scheme: 'hmac-sha256',
    shell_port: 1,
    iopub_port: 2,
    stdin_port: 3,
    control_port: 4,
    hb_port: 5,
  };
}
