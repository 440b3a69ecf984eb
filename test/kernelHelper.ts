import { KERNEL_ARGV } from '../lib/jupyter/install/register';
import { KernelClient } from '../lib/jupyter/notebook/client';
import type { Content, Message } from '../lib/jupyter/protocol/message';

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
  const kernel = await KernelClient.start([...KERNEL_ARGV, ...flags], environment, folder);
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
  const reply = await kernel.request('execute_request', { code, ...options }, { onOutput, timeoutMs: 60_000 });
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
