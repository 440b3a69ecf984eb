/** Where the launcher brings back what was written to the kernel's descriptors 1 and 2, and where the kernel speaks of itself. */
export const CAPTURED = { stdout: 3, stderr: 4 } as const;
export const LOG = 5;

export type Name = keyof typeof CAPTURED;
export const NAMES = ['stdout', 'stderr'] as const;

/**
 * All that happens on the main thread has a number, and a mark with that number is put into both descriptors when it happens: what stands before
 * a mark was written before. What cells print follows its mark in the descriptor itself, so that it has the same way as what child processes and
 * native code write there. `key` is a secret of the kernel's; `length` is of the text that follows, in bytes.
 */
export interface Mark {
  number: number;
  length: number;
  /** Whose code printed the text: see `FromSession`. */
  request: number;
}

export function encodeMark(key: string, { number, length, request }: Mark): string {
  return `\0${key}:${number}:${length}:${request}\0`;
}

/** What `encodeMark` has written between its first bytes and its last. */
export function decodeMark(fields: string): Mark {
  const [number = 0, length = 0, request = 0] = fields.split(':').map(Number);
  return { number, length, request };
}
