import { Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';

/** Where the launcher brings back what was written to the kernel's descriptors 1 and 2, and where the kernel speaks of itself. */
export const CAPTURED = { stdout: 3, stderr: 4 } as const;
export const LOG = 5;

type Name = keyof typeof CAPTURED;

/** A mark in the bytes of a descriptor: what came before it was written before. `key` is a secret of the kernel's. */
export function mark(key: string, number: number): string {
  return `\0${key}:${number}\0`;
}

/**
 * What child processes and native code have written to descriptors 1 and 2. It comes by way of the launcher, so later than what the
 * main thread says at the same time; marks tell what was first.
 */
export class Descriptors {
  private readonly passed = { stdout: 0, stderr: 0 };
  private waiting: (() => void)[] = [];

  /** `onEnd` is called when the launcher is gone. */
  constructor(
    private readonly key: string,
    private readonly onText: (name: Name, text: string) => void,
    onEnd: () => void,
  ) {
    for (const name of ['stdout', 'stderr'] as const) {
      const read = this.reader(name);
      new Socket({ fd: CAPTURED[name], readable: true, writable: false })
        .on('data', read)
        .on('error', onEnd)
        .on('close', onEnd)
        .unref();
    }
  }

  /** Resolves when all has come that was written before this mark; at the latest after `patience` milliseconds. */
  async until(number: number, patience: number): Promise<void> {
    const deadline = Date.now() + patience;
    while (Math.min(this.passed.stdout, this.passed.stderr) < number) {
      const left = deadline - Date.now();
      if (left <= 0) {
        for (const name of ['stdout', 'stderr'] as const) this.passed[name] = Math.max(this.passed[name], number);
        return;
      }
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, left);
        this.waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  private reader(name: Name): (bytes: Buffer) => void {
    const start = Buffer.from(`\0${this.key}:`);
    const decoder = new StringDecoder();
    let held: Buffer = Buffer.alloc(0);
    const tell = (bytes: Buffer): void => {
      const text = decoder.write(bytes);
      if (text !== '') this.onText(name, text);
    };
    return bytes => {
      held = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
      for (;;) {
        const at = held.indexOf(start);
        const end = at < 0 ? -1 : held.indexOf(0, at + start.length);
        if (end < 0) break;
        tell(held.subarray(0, at));
        this.passed[name] = Math.max(this.passed[name], Number(held.subarray(at + start.length, end).toString()));
        held = held.subarray(end + 1);
      }
      const open = beginning(held, start);
      tell(held.subarray(0, open));
      held = held.subarray(open);
      for (const go of this.waiting.splice(0)) go();
    };
  }
}

/** Where a mark may have begun whose rest has not come. */
function beginning(bytes: Buffer, start: Buffer): number {
  const whole = bytes.indexOf(start);
  if (whole >= 0) return whole;
  for (
    let at = bytes.lastIndexOf(0);
    at >= 0 && bytes.length - at < start.length;
    at = at === 0 ? -1 : bytes.lastIndexOf(0, at - 1)
  )
    if (start.subarray(0, bytes.length - at).equals(bytes.subarray(at))) return at;
  return bytes.length;
}
