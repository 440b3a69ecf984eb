import type { MessagePort } from 'node:worker_threads';
import type { KernelMessage } from '@jupyterlab/services';
import type { Name } from './descriptors';
import type { Content, ContentOf } from './message';

/** What the thread of the wire protocol (wire.ts) and the main thread (kernel.ts), which runs the cells, tell each other. */
export type ToSession =
  | { kind: 'request'; type: keyof Answers; content: Content; cell: number; request: number }
  | { kind: 'interrupt' }
  | { kind: 'terminated' }
  | { kind: 'exit' };

/** How a cell ended, and its last value. */
export type Executed =
  | { status: 'ok'; result?: Pick<ContentOf<'execute_result'>, 'data' | 'metadata'> }
  | KernelMessage.IReplyErrorContent;

/** What the session is asked, and what it answers. */
export interface Answers {
  execute_request: Executed;
  complete_request: ContentOf<'complete_reply'>;
  inspect_request: ContentOf<'inspect_reply'>;
  is_complete_request: ContentOf<'is_complete_reply'>;
}

/** What code of a cell has the kernel tell all front ends. */
export type Published = 'display_data' | 'update_display_data' | 'clear_output' | 'error';

/**
 * `request` is the one whose code has written it, which may have been answered long ago. `mark` is that in descriptors 1 and 2 which tells
 * what was written there before and after.
 */
export type FromSession =
  | { kind: 'stream'; name: Name; text: string; request?: number; mark: number }
  | { kind: 'publish'; type: Published; content: ContentOf<Published>; request?: number; mark: number }
  | { kind: 'reply'; content: Answers[keyof Answers]; mark: number }
  | { kind: 'input'; id: number; prompt: string; mark: number }
  | { kind: 'close'; mark: number }
  | { kind: 'closed'; name: Name }
  | { kind: 'interrupting' };

/** Of a person; `refused` says why there is none, `ended` that the cell was interrupted, or that none runs (any more). */
export type InputAnswer = { id: number } & (
  | { value: string }
  | { refused: string }
  | { ended: 'interrupted' | 'over' }
);

export interface WireData {
  connectionFile: string;
  /** Int32Array [3], at the indices of Flag. */
  flags: SharedArrayBuffer;
  /** Of the marks in descriptors 1 and 2. */
  markKey: string;
  language: 'typescript' | 'javascript';
  /** Gets an InputAnswer for each `input`. */
  answers: MessagePort;
  /** Where what was typed is kept from one session to the next. */
  history: string | undefined;
}

/** What a thread must be able to see while the other is busy. */
export const Flag = {
  /** 1 while code of a cell may run on the main thread, 0 while the kernel's own does. */
  userCodeRuns: 0,
  /** 1 when the sockets are closed: zeromq aborts a process that exits before. */
  closed: 1,
  /** How many answers have been sent. */
  answers: 2,
} as const;
