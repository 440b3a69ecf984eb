import seedrandom from 'seedrandom';
import { cos, log } from './elementary';

/** A stream of pseudo-random numbers. Equal seeds and names give equal bytes, whatever else the program draws. */
export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** An integer in [0, n). */
  int(n: number): number;
  /** Standard normal (Box–Muller). */
  normal(): number;
  /** The indices 0 … n−1 in random order (Fisher–Yates). */
  permutation(n: number): number[];
  /** An independent stream, named after what it is for: `rng.fork('augment', epoch, image)`. */
  fork(...names: (string | number)[]): Random;
}

let streams = 0;
let frozen: { streams: number; refuse: () => never } | undefined;

/** Runs `fn`, in which a draw from a stream that is there already calls `refuse`: what `fn` draws would be kept and used again. */
export function refusingDraws<T>(refuse: () => never, fn: () => T): T {
  const before = frozen;
  frozen = { streams, refuse };
  try {
    return fn();
  } finally {
    frozen = before;
  }
}

/** The stream of a seed. Forks depend on the seed and the names alone, never on how much was drawn before. */
export function random(seed: string | number): Random {
  const key = String(seed);
  const next = seedrandom(key);
  const stream = streams++;
  const draw = (): number => {
    if (frozen && stream < frozen.streams) frozen.refuse();
    return next();
  };
  return {
    uniform: draw,
    int: n => Math.floor(draw() * n),
    normal: () => Math.sqrt(-2 * log(1 - draw())) * cos(2 * Math.PI * draw()),
    permutation(n) {
      const order = Array.from({ length: n }, (_, i) => i);
      for (let i = n - 1; i > 0; i--) {
        const j = Math.floor(draw() * (i + 1));
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      return order;
    },
    fork: (...names) => random(`${key}/${names.join('/')}`),
  };
}
