import { Readable } from 'node:stream';
import type { Input } from '../protocol/input';
import type { InputAnswer } from '../protocol/threads';
import { Interrupted } from './traceback';

export interface StdinOptions {
  input: Input;
  /** What stands in the last line of the output, if it has not ended: a question, as those who read lines print it. It is asked once. */
  takeOpenLine: () => string;
}

/** A cell has asked for input where nobody can give it. */
class StdinNotImplementedError extends Error {
  override name = 'StdinNotImplementedError';
}

/** `prompt()`, `confirm()` and `process.stdin`, answered by the person at the front end. */
export function provideStdin({ input, takeOpenLine }: StdinOptions): { cellBegins(): void } {
  const ask = (question: string): string => {
    const line = typed(input.line(question));
    if (line === undefined) throw new StdinNotImplementedError('Input was asked for, but no cell runs that could ask.');
    return line;
  };
  Object.assign(globalThis, {
    prompt: (question = '', otherwise?: string): string => ask(spaced(question)) || (otherwise ?? ''),
    confirm: (question = ''): boolean => /^\s*y(es)?\s*$/i.test(ask(`${spaced(question)}[y/N] `)),
    alert: (message = ''): void => void ask(`${spaced(message)}[Enter] `),
  });
  const open = (): Stdin => new Stdin(async () => typed(await input.lineLater(takeOpenLine())));
  let stream = open();
  Object.defineProperty(process, 'stdin', {
    get() {
      if (stream.destroyed) stream = open(); // by a loop that was left, or for want of a person
      return stream;
    },
    configurable: true,
    enumerable: true,
  });
  return { cellBegins: () => stream.cellBegins() };
}

const spaced = (question: unknown): string => String(question).replace(/\S$/, '$& ');

/** Nothing if the cell has ended in the meantime. */
function typed(answer: InputAnswer): string | undefined {
  if ('value' in answer) return answer.value;
  if ('refused' in answer)
    throw new StdinNotImplementedError(`The cell asks for input, but ${answer.refused}: set a variable instead.`);
  if (answer.ended === 'interrupted') throw new Interrupted('the cell was interrupted');
  return undefined;
}

/** Lines that a person types, each asked for when somebody waits for it. */
class Stdin extends Readable {
  readonly fd = 0;
  readonly isTTY = false;
  private state: 'idle' | 'asking' | 'waiting' | 'paused' = 'idle';

  constructor(private readonly line: () => Promise<string | undefined>) {
    super({ highWaterMark: 1 });
  }

  /** Whoever reads while no cell runs is asked for when one does. */
  cellBegins(): void {
    if (this.state !== 'waiting') return;
    this.state = 'idle';
    this._read();
  }

  override read(size?: number): unknown {
    if (this.state === 'paused') {
      this.state = 'idle';
      this._read();
    }
    return super.read(size);
  }

  /** Whoever has read enough says so after the line has come (`rl.close()`), so the next is asked for a moment later. */
  override _read(): void {
    if (this.state !== 'idle') return;
    this.state = 'asking';
    setTimeout(() => void this.request(), 10);
  }

  private async request(): Promise<void> {
    if (this.isPaused() && this.listenerCount('readable') === 0) {
      this.state = 'paused';
      return;
    }
    const line = await this.line().catch((error: Error) => error);
    this.state = 'idle';
    if (typeof line === 'string') this.push(`${line}\n`);
    else if (line instanceof Error && !(line instanceof Interrupted)) this.destroy(line);
    else this.state = 'waiting';
  }
}
