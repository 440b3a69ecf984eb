import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { encodeMark, NAMES, type Name } from '../protocol/descriptors';

const FD = { stdout: 1, stderr: 2 } as const;
/** Of one write, in bytes: the reader waits for all of it. */
const AT_ONCE = 1 << 16;

/** Of a line that is long no more is needed: it is shown to whoever is asked for input. */
const QUESTION = 200;

export interface StreamsOptions {
  key: string;
  /** The request whose code runs now. */
  request: () => number | undefined;
  /** A text as it is to be read: stacks with the places that the cells' code has. */
  clean: (text: string) => string;
  /** The descriptor can't be written to any more: a cell has closed it, or the launcher is gone. */
  onClose: (name: Name) => void;
  /** Takes the text that a closed descriptor can't. */
  onText: (name: Name, text: string, mark: number) => void;
}

/** Descriptors 1 and 2, as the main thread writes them: see protocol/descriptors.ts. */
export class Streams {
  private openLine = '';
  private number = 0;
  private readonly open = { stdout: true, stderr: true };
  private readonly nobody = new Int32Array(new SharedArrayBuffer(4));

  constructor(private readonly options: StreamsOptions) {}

  /** What is sent with this number comes after all that was written before, and before all that is written later. */
  mark(): number {
    const number = ++this.number;
    for (const name of NAMES) this.write(name, number);
    return number;
  }

  print(name: Name, text: string | Uint8Array): void {
    const bytes = typeof text === 'string' ? Buffer.from(this.options.clean(text)) : Buffer.from(text);
    if (name === 'stdout') this.openLine = (this.openLine + bytes).slice(-QUESTION).split('\n').at(-1)!;
    for (let at = 0; at < bytes.length; at += AT_ONCE) {
      const part = bytes.subarray(at, at + AT_ONCE);
      const number = ++this.number;
      for (const each of NAMES) this.write(each, number, each === name ? part : undefined);
      if (!this.open[name]) this.options.onText(name, part.toString(), number);
    }
  }

  /** What has been printed to stdout since the last end of a line, or since the last call. */
  takeOpenLine(): string {
    const line = this.openLine;
    this.openLine = '';
    return line;
  }

  /** As `process.stdout` and `process.stderr`; those of Node would make the descriptors non-blocking, also for child processes. */
  stream(name: Name): NodeJS.WriteStream {
    const stream = new Writable({ decodeStrings: false, autoDestroy: false });
    const write = (chunk: string | Uint8Array, ...more: unknown[]): boolean => {
      const [encoding] = more.filter(value => typeof value === 'string') as BufferEncoding[];
      const isText = typeof chunk !== 'string' || encoding === undefined || /^utf-?8$/i.test(encoding);
      this.print(name, isText ? chunk : Buffer.from(chunk, encoding));
      for (const done of more) if (typeof done === 'function') process.nextTick(done);
      return true;
    };
    // The cells have one for all of them: none can end it, but whoever waits for its end hears of it.
    const end = (...more: unknown[]): Writable => {
      const [chunk] = more;
      if (typeof chunk === 'string' || chunk instanceof Uint8Array) write(chunk, ...more.slice(1));
      else for (const done of more) if (typeof done === 'function') process.nextTick(done);
      process.nextTick(() => stream.emit('finish'));
      return stream;
    };
    const methods = { write, end, destroy: () => stream };
    return Object.assign(stream, methods, { fd: FD[name], isTTY: false }) as unknown as NodeJS.WriteStream;
  }

  private write(name: Name, number: number, text: Uint8Array = new Uint8Array()): void {
    if (!this.open[name]) return;
    const mark = encodeMark(this.options.key, { number, length: text.length, request: this.options.request() ?? 0 });
    let bytes = Buffer.concat([Buffer.from(mark), text]);
    while (bytes.length > 0) {
      try {
        bytes = bytes.subarray(writeSync(FD[name], bytes));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') {
          this.open[name] = false;
          this.options.onClose(name);
          return;
        }
        Atomics.wait(this.nobody, 0, 0, 1); // a child process has made it non-blocking, and it is full
      }
    }
  }
}
