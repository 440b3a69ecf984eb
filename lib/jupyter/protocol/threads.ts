import type { Name } from './descriptors';
import type { Content } from './message';

/** What the thread of the wire protocol (wire.ts) and the main thread (kernel.ts), which runs the cells, tell each other. */
export type ToSession =
  | { kind: 'request'; type: string; content: Content; cell: number; request: number }
  | { kind: 'interrupt' }
  | { kind: 'terminated' }
  | { kind: 'exit' };

/**
 * `request` is the one whose code has written it, which may have been answered long ago. `mark` is that in descriptors 1 and 2 which tells
 * what was written there before and after.
 */
export type FromSession =
  | { kind: 'stream'; name: Name; text: string; request?: number; mark: number }
  | { kind: 'publish'; type: string; content: Content; request?: number; mark: number }
  | { kind: 'reply'; content: Content; mark: number }
  | { kind: 'close'; mark: number }
  | { kind: 'closed'; name: Name }
  | { kind: 'interrupting' };

export interface WireData {
  connectionFile: string;
  /** Int32Array [2], at the indices of Flag. */
  flags: SharedArrayBuffer;
  /** Of the marks in descriptors 1 and 2. */
  markKey: string;
  language: 'typescript' | 'javascript';
}

/** What a thread must be able to see while the other is busy. */
export const Flag = {
  /** 1 while code of a cell may run on the main thread, 0 while the kernel's own does. */
  userCodeRuns: 0,
  /** 1 when the sockets are closed: zeromq aborts a process that exits before. */
  closed: 1,
} as const;
