import { createHmac, randomUUID } from 'node:crypto';
import { Dealer, Subscriber } from 'zeromq';
import { KERNEL_ARGV } from '../lib/jupyter/install/register';
import { KernelClient } from '../lib/jupyter/notebook/client';
import { address, type Connection } from '../lib/jupyter/protocol/connection';
import { type Content, decode, type Message, newHeader } from '../lib/jupyter/protocol/message';

export interface Ran {
  status: unknown;
  count: unknown;
  stdout: string;
  stderr: string;
  /** Text of the last expression's value. */
  result: string | undefined;
  /** Contents of the `error` messages. */
  errors: { ename: string; evalue: string; traceback: string[] }[];
  messages: Message[];
}

/** A kernel process in a notebook's folder, and its late outputs (those that came after their request was answered). */
export async function startKernel(
  environment: NodeJS.ProcessEnv = process.env,
  folder?: string,
  flags: readonly string[] = [],
): Promise<{
  kernel: KernelClient;
  late: Message[];
  run: (code: string, options?: Content, onMessage?: (message: Message) => void) => Promise<Ran>;
}> {
  const kernel = await KernelClient.start([...KERNEL_ARGV, '--no-history', ...flags], environment, folder);
  const late: Message[] = [];
  kernel.onLateOutput = message => late.push(message);
  return { kernel, late, run: (code, options, onMessage) => run(kernel, code, options, onMessage) };
}

async function run(
  kernel: KernelClient,
  code: string,
  options: Content = {},
  onMessage: (message: Message) => void = () => {},
): Promise<Ran> {
  const messages: Message[] = [];
  const onOutput = (message: Message): void => {
    messages.push(message);
    onMessage(message);
  };
  const reply = await kernel.request('execute_request', { code, ...options }, { onOutput, timeoutMs: 110_000 });
  const contents = (type: string): Content[] =>
    messages.filter(({ header }) => header.msg_type === type).map(({ content }) => content);
  const text = (name: string): string =>
    contents('stream')
      .filter(content => content.name === name)
      .map(content => content.text)
      .join('');
  const [result] = contents('execute_result') as { data: Record<string, string> }[];
  return {
    status: reply.status,
    count: reply.execution_count,
    stdout: text('stdout'),
    stderr: text('stderr'),
    result: result?.data['text/plain'],
    errors: contents('error') as Ran['errors'],
    messages,
  };
}

type Channel = 'shell' | 'control' | 'stdin';

/** A front end of its own on a kernel that runs already, which sees each message as it comes. */
export class FrontEnd {
  readonly session = randomUUID();
  private readonly sockets: Record<Channel, Dealer>;
  private readonly iopub = new Subscriber({ linger: 0, receiveHighWaterMark: 1 });
  private readonly arrived: Message[] = [];
  private arrive: () => void = () => {};

  /** `identity` is that of zeromq, which two front ends may share. */
  constructor(
    private readonly connection: Connection,
    identity: string = randomUUID(),
  ) {
    const dealer = (port: number): Dealer => {
      const socket = new Dealer({ linger: 0, receiveTimeout: 60_000, routingId: identity });
      socket.connect(address(connection, port));
      return socket;
    };
    const { shell_port, control_port, stdin_port, iopub_port } = connection;
    this.sockets = { shell: dealer(shell_port), control: dealer(control_port), stdin: dealer(stdin_port) };
    this.iopub.connect(address(connection, iopub_port));
  }

  /** Gets what is published from then on, beginning with the kernel's welcome, which it returns. One that is stuck reads no further. */
  async subscribe({ isStuck = false } = {}): Promise<Message> {
    this.iopub.subscribe();
    const welcome = decode(this.connection.key, await this.iopub.receive());
    if (!isStuck) void this.read();
    return welcome;
  }

  private async read(): Promise<void> {
    for await (const frames of this.iopub) {
      this.arrived.push(decode(this.connection.key, frames));
      this.arrive();
    }
  }

  async published(): Promise<Message> {
    for (;;) {
      const message = this.arrived.shift();
      if (message) return message;
      await new Promise<void>(resolve => {
        this.arrive = resolve;
      });
    }
  }

  async send(type: string, content: Content = {}, channel: Channel = 'shell'): Promise<string> {
    const header = newHeader(type, this.session, 'test');
    await this.sendParts([JSON.stringify(header), '{}', '{}', JSON.stringify(content)], channel);
    return header.msg_id;
  }

  /** Signs and sends whatever stands in the place of header, parent header, metadata and content. */
  async sendParts(parts: string[], channel: Channel = 'shell'): Promise<void> {
    const signature = createHmac('sha256', this.connection.key).update(parts.join('')).digest('hex');
    await this.sockets[channel].send(['<IDS|MSG>', signature, ...parts]);
  }

  async receive(channel: Channel = 'shell'): Promise<Message> {
    return decode(this.connection.key, await this.sockets[channel].receive());
  }

  /** The reply, and what was published for the request until the kernel was idle again. */
  async ask(
    type: string,
    content: Content = {},
    channel: Channel = 'shell',
  ): Promise<{ reply: Message; published: Message[] }> {
    const id = await this.send(type, content, channel);
    const published: Message[] = [];
    for (;;) {
      const message = await this.published();
      if (message.parent.msg_id !== id) continue;
      published.push(message);
      if (message.content.execution_state === 'idle') break;
    }
    return { reply: await this.receive(channel), published };
  }

  close(): void {
    for (const socket of [...Object.values(this.sockets), this.iopub]) socket.close();
  }
}
