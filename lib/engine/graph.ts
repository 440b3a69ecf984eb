import type { Tensor } from '@tensorflow/tfjs';

/** Nested arrays and records of tensors. */
export type Tree = Tensor | readonly Tree[] | { readonly [key: string]: Tree };

export interface CompileOptions {
  /** What a tensor that the function captured becomes: a graph input, read anew each call, or a frozen constant. */
  capture?: 'input' | 'constant';
  /** Named in messages. */
  name?: string;
  /** Signatures kept at once (default 8). */
  maxSignatures?: number;
}

export type Compiled<A extends readonly Tree[], R extends Tree> = ((...args: A) => R) & { dispose(): void };

export function compile<A extends readonly Tree[], R extends Tree>(fn: (...args: A) => R, _options: CompileOptions = {}): Compiled<A, R> {
  return Object.assign((...args: A) => fn(...args), { dispose() {} });
}
