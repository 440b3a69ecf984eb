import { Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import { CAPTURED, decodeMark, type Mark, NAMES, type Name } from './descriptors';

/** `request` is missing where a child process or native code has written. */
type Tell = (name: Name, text: string, request?: number) => void;

/**
 * Brings together what comes by three ways, in the order in which it was written: the text in descriptors 1 and 2, and the messages of the main
 * thread, each of which has the number of a mark. What two processes write to different descriptors between the same two marks has no order that
 * anybody could know.
 */
export class Transcript {
  private readonly pipes: Record<Name, Pipe>;
  private readonly messages = new Map<number, () => void>();
  private next = 1;
  private latest = 0;

  /** `onEnd` is called when the launcher is gone. */
  constructor(key: string, tell: Tell, onEnd: () => void) {
    const pipe = (name: Name): Pipe => {
      const reader = new Pipe(key, (text, request) => tell(name, text, request));
      new Socket({ fd: CAPTURED[name], readable: true, writable: false })
        .on('data', bytes => {
          reader.add(bytes);
          this.advance();
        })
        .on('error', onEnd)
        .on('close', onEnd)
        .unref();
      return reader;
    };
    this.pipes = { stdout: pipe('stdout'), stderr: pipe('stderr') };
  }

  /** `act` is called in its turn. Messages are to be given in the order of their numbers. */
  add(number: number, act: () => void): void {
    this.messages.set(number, act);
    this.latest = number;
    this.advance();
  }

  /** The main thread can't write there any more, so no marks will come. */
  close(name: Name): void {
    this.pipes[name].isOpen = false;
    this.advance();
  }

  private advance(): void {
    for (;;) {
      const pipes = NAMES.map(name => this.pipes[name]);
      for (const pipe of pipes) pipe.tellUntilMark();
      if (pipes.some(({ isOpen, mark }) => isOpen && !(mark && mark.number >= this.next))) return;
      const printed = pipes.find(({ mark }) => mark?.number === this.next && mark.length > 0);
      const act = this.messages.get(this.next);
      // Only what V8 has ended in the middle has neither; that is known when something later has come.
      if (!printed && !act && this.latest < this.next) return;
      if (printed && !printed.tellMarked()) return; // the rest of the text is on its way
      act?.();
      this.messages.delete(this.next);
      for (const pipe of pipes) if (pipe.mark?.number === this.next) pipe.passMark();
      this.next++;
    }
  }
}

/** The bytes of one descriptor, with marks in between. */
class Pipe {
  isOpen = true;
  /** What comes next, if it is a mark. */
  mark: Mark | undefined;
  private readonly start: Buffer;
  private readonly decoder = new StringDecoder();
  private readonly arrived: Buffer[] = [];
  private bytes: Buffer = Buffer.alloc(0);

  constructor(
    key: string,
    private readonly tell: (text: string, request?: number) => void,
  ) {
    this.start = Buffer.from(`\0${key}:`);
  }

  add(bytes: Buffer): void {
    this.arrived.push(bytes);
  }

  /** Tells what stands before the next mark. */
  tellUntilMark(): void {
    if (this.mark) return;
    this.gather();
    const at = this.bytes.indexOf(this.start);
    const end = at < 0 ? -1 : this.bytes.indexOf(0, at + this.start.length);
    this.take(at < 0 ? this.beginning() : at);
    if (end < 0) return;
    this.mark = decodeMark(this.bytes.subarray(this.start.length, end - at).toString('latin1'));
    this.bytes = this.bytes.subarray(end - at + 1);
  }

  /** Tells the text of the mark, if all of it has come. */
  tellMarked(): boolean {
    this.gather();
    const { length, request } = this.mark!;
    if (this.bytes.length < length) return false;
    this.take(length, request);
    return true;
  }

  passMark(): void {
    this.mark = undefined;
  }

  private gather(): void {
    if (this.arrived.length > 0) this.bytes = Buffer.concat([this.bytes, ...this.arrived.splice(0)]);
  }

  private take(length: number, request?: number): void {
    const text = this.decoder.write(this.bytes.subarray(0, length));
    this.bytes = this.bytes.subarray(length);
    if (text !== '') this.tell(text, request);
  }

  /** Where a mark may have begun whose rest has not come. */
  private beginning(): number {
    const { bytes, start } = this;
    for (let at = bytes.lastIndexOf(0); at >= 0 && bytes.length - at < start.length; ) {
      if (start.subarray(0, bytes.length - at).equals(bytes.subarray(at))) return at;
      at = at === 0 ? -1 : bytes.lastIndexOf(0, at - 1);
    }
    return bytes.length;
  }
}
