import { KERNEL_ARGV, KERNELS } from '../install/register';
import type { Message } from '../protocol/message';
import { KernelClient, KernelDied } from './client';
import { type CodeCell, languageOf, type Notebook, type Output } from './notebook';

export interface ExecuteOptions {
  /** Per cell; a cell that takes longer is interrupted, and has failed. */
  timeoutMs: number;
  /** The notebook's: what its cells import and read is relative to it (default: the working directory). */
  folder?: string;
  /** Ends the run as a failure of the cell that runs. */
  signal?: AbortSignal;
  /** Runs the cells behind one that fails too. */
  keepGoing?: boolean;
  /** Called when a cell has ended and its outputs are in the notebook: how many of all cells that run have. */
  onCell?: (done: number, total: number) => void;
  /** Called for each output as it comes. */
  onOutput?: (message: Message) => void;
}

export interface CellFailure {
  /** `cell [3]`, by the number that Jupyter gives it, or what failed besides. */
  where: string;
  ename: string;
  evalue: string;
  traceback: readonly string[];
}

/** A cell that cannot be interrupted within this time is ended together with its kernel. */
const INTERRUPT_PATIENCE_MS = 15_000;

/** Waits until timers, files and connections that cells left behind are done, at most 2 s: they may still fail. */
const SETTLE = `await (async () => {
  const busy = () => process.getActiveResourcesInfo().some(name => !/^(MessagePort|TTYWrap|PipeWrap|SignalWrap|Immediate)$/.test(name));
  for (let waited = 0; waited < 2000 && busy(); waited += 20) await new Promise(done => setTimeout(done, 20));
})()`;

/**
 * Runs all code cells in a kernel of their own and puts the outputs into the notebook, in place; nothing of it depends on time. Stops at
 * the first cell that fails, unless it is tagged `raises-exception` or all are to run, and returns what failed. Cells tagged `skip-execution`
 * don't run.
 */
export async function executeNotebook(
  notebook: Notebook,
  { timeoutMs, folder, signal, keepGoing = false, onCell, onOutput }: ExecuteOptions,
): Promise<CellFailure[]> {
  const all = notebook.cells.filter((cell): cell is CodeCell => cell.cell_type === 'code');
  for (const cell of all) Object.assign(cell, { outputs: [], execution_count: null });
  const cells = all.filter(cell => cell.source.trim() !== '' && !cell.metadata.tags?.includes('skip-execution'));
  const language = languageOf(notebook) ?? 'typescript';
  const { name, displayName, flags } = KERNELS[language];
  const asTslab = notebook.metadata.kernelspec?.name === 'tslab' ? ['--tslab'] : [];
  const kernel = await KernelClient.start([...KERNEL_ARGV, ...flags, ...asTslab, '--no-history'], process.env, folder);
  const outputs = new Outputs(onOutput);
  const failures: CellFailure[] = [];
  kernel.onLateOutput = message => {
    const owner = outputs.add(message);
    if (owner && message.header.msg_type === 'error') failures.push(failureOf(owner));
  };
  try {
    const { language_info } = (await kernel.request('kernel_info_request')) as Pick<
      Notebook['metadata'],
      'language_info'
    >;
    const { metadata } = notebook;
    metadata.kernelspec ??= { name, display_name: displayName, language };
    metadata.language_info = language_info;
    await kernel.request('is_complete_request', { code: '' }); // the compiler's start is not the first cell's time
    for (const [index, cell] of cells.entries()) {
      if (signal?.aborted) {
        const evalue = 'it was interrupted between two cells';
        return [...failures, { where: 'the run', ename: 'Interrupted', evalue, traceback: [] }];
      }
      const failed = await runCell(kernel, cell, outputs, timeoutMs, signal);
      if (failed && !cell.metadata.tags?.includes('raises-exception')) failures.push(failed);
      onCell?.(index + 1, cells.length);
      if (failed?.ename === 'KernelDied' || (failures.length > 0 && !keepGoing)) return failures;
    }
    if (cells.length > 0) await kernel.request('execute_request', { code: SETTLE, silent: true });
  } catch (error) {
    if (!(error instanceof KernelDied)) throw error;
    failures.push({ where: 'the kernel', ename: error.name, evalue: error.message, traceback: [error.message] });
  } finally {
    await kernel.stop();
  }
  return failures;
}

async function runCell(
  kernel: KernelClient,
  cell: CodeCell,
  outputs: Outputs,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<CellFailure | undefined> {
  let stopped: string | undefined;
  let force: NodeJS.Timeout | undefined;
  const stop = (why: string): void => {
    stopped = why;
    kernel.interrupt().catch(() => {}); // a kernel that has died is reported by the request
    force = setTimeout(() => kernel.process.kill('SIGKILL'), INTERRUPT_PATIENCE_MS);
  };
  const onAbort = (): void => stop('the run was interrupted');
  const timer = setTimeout(() => stop(`it did not end within ${timeoutMs / 1000} s`), timeoutMs);
  signal?.addEventListener('abort', onAbort);
  try {
    const reply = await kernel.request(
      'execute_request',
      { code: cell.source, stop_on_error: false, allow_stdin: false },
      { onOutput: message => outputs.add(message, cell) },
    );
    cell.execution_count = reply.execution_count as number;
    if (reply.status === 'ok') return undefined;
  } catch (error) {
    if (!(error instanceof KernelDied)) throw error;
    const evalue = stopped ? `${stopped}, nor could it be interrupted` : error.message;
    cell.outputs.push({ output_type: 'error', ename: error.name, evalue, traceback: evalue.split('\n') });
  } finally {
    clearTimeout(timer);
    clearTimeout(force);
    signal?.removeEventListener('abort', onAbort);
  }
  const error = cell.outputs.find(output => output.output_type === 'error');
  if (stopped && error?.output_type === 'error' && error.ename === 'Interrupted')
    Object.assign(error, { evalue: stopped, traceback: [`Interrupted: ${stopped}`] });
  return failureOf(cell);
}

function failureOf(cell: CodeCell): CellFailure {
  const error = cell.outputs.filter(output => output.output_type === 'error').at(-1);
  if (error?.output_type !== 'error') throw new Error('A cell failed without an error: the kernel broke the protocol.');
  const where =
    cell.execution_count === null
      ? `the cell that begins '${cell.source.trim().split('\n')[0]}'`
      : `cell [${cell.execution_count}]`;
  return { where, ename: error.ename, evalue: error.evalue, traceback: error.traceback };
}

/** As a terminal shows it in the end, and as nbclient stores it: of a line that was written again and again (`\r`) only its last state. */
function joined(before: string, text: string): string {
  const start = before.lastIndexOf('\n') + 1;
  let line = before.slice(start) + text;
  if (!/[\r\b]/.test(line)) return before + text;
  for (let last = ''; last !== line; ) {
    last = line;
    line = line.replace(/[^\n][\b]/g, '');
  }
  return before.slice(0, start) + line.replace(/.*\r(?=[^\n])/g, '');
}

interface Shown {
  data: Record<string, unknown>;
  metadata: Record<string, unknown>;
  execution_count: number;
  transient?: { display_id?: string };
}

/** Turns messages into the outputs of cells. */
class Outputs {
  private readonly cells = new Map<string, CodeCell>();
  private readonly displays = new Map<string, Shown[]>();
  private readonly clearing = new Set<CodeCell>();

  constructor(private readonly onOutput: (message: Message) => void = () => {}) {}

  /** Adds an output of the cell, which later messages of the same request need not name; returns the cell. */
  add(message: Message, cell = this.cells.get(message.parent.msg_id ?? '')): CodeCell | undefined {
    if (!cell) return undefined;
    const { header, parent, content } = message;
    this.onOutput(message);
    this.cells.set(parent.msg_id!, cell);
    const { msg_type: type } = header;
    if (this.clearing.has(cell) && type !== 'clear_output') {
      cell.outputs = [];
      this.clearing.delete(cell);
    }
    if (type === 'clear_output') {
      if (content.wait) this.clearing.add(cell);
      else cell.outputs = [];
    } else if (type === 'stream') {
      const { name, text } = content as { name: string; text: string };
      const last = cell.outputs.at(-1);
      if (last?.output_type === 'stream' && last.name === name) last.text = joined(last.text, text);
      else cell.outputs.push({ output_type: 'stream', name, text: joined('', text) });
    } else if (type === 'error') {
      const { ename, evalue, traceback } = content as { ename: string; evalue: string; traceback: string[] };
      cell.outputs.push({ output_type: 'error', ename, evalue, traceback });
    } else if (type === 'display_data' || type === 'execute_result') {
      const { data, metadata = {}, execution_count, transient } = content as unknown as Shown;
      const output: Output =
        type === 'display_data'
          ? { output_type: type, data, metadata }
          : { output_type: type, data, metadata, execution_count };
      cell.outputs.push(output);
      if (transient?.display_id) this.shown(transient.display_id).push(output as Shown);
    } else if (type === 'update_display_data') {
      const { data, metadata = {}, transient } = content as unknown as Shown;
      for (const output of this.shown(transient?.display_id ?? '')) Object.assign(output, { data, metadata });
    }
    return cell;
  }

  private shown(id: string): Shown[] {
    const outputs = this.displays.get(id) ?? [];
    this.displays.set(id, outputs);
    return outputs;
  }
}
