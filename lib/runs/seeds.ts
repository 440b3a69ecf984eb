import { UserError } from '../util/errors';

/** Seeds of one experiment at most: more is a slip of the finger. */
const MOST = 1000;
const LARGEST = 2 ** 31 - 1;

/**
 * `3` → 0, 1, 2; `3..22` → 3 to 22; `7,9` or `0..2,7` → as listed. In order, each once. Throws UserError for what is none, and for more than a
 * thousand.
 */
export function parseSeeds(text: string): number[] {
  const refuse = (why: string): never => {
    throw new UserError(
      `--seeds is '${text}': ${why}. Allowed are a number of seeds (3 is 0, 1 and 2), a range (3..22) and a list (0,7,9).`,
    );
  };
  const part = (piece: string): number[] => {
    const [, first, last = first] = /^\s*(\d{1,10})(?:\.\.(\d{1,10}))?\s*$/.exec(piece) ?? refuse('that is no seed');
    const [from, to] = [Number(first), Number(last)];
    if (to < from) refuse(`${from} is above ${to}`);
    if (to > LARGEST) refuse(`seeds end at ${LARGEST}`);
    if (to - from >= MOST) refuse(`that are more than ${MOST}`);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  };
  const count = /^\s*\d+\s*$/.test(text) ? Number(text) : undefined;
  if (count === 0) refuse('there is nothing to train');
  if (count !== undefined && count > MOST) refuse(`that are more than ${MOST}`);
  const seeds = count === undefined ? text.split(',').flatMap(part) : firstSeeds(count);
  if (seeds.length > MOST) refuse(`that are more than ${MOST}`);
  return [...new Set(seeds)].sort((a, b) => a - b);
}

/** Seeds 0 … count − 1. */
export function firstSeeds(count: number): number[] {
  return Array.from({ length: count }, (_, seed) => seed);
}

/** What `parseSeeds` reads as these. */
export function formatSeeds(all: readonly number[]): string {
  const seeds = [...new Set(all)].sort((a, b) => a - b);
  if (seeds.every((seed, i) => seed === i)) return String(seeds.length);
  const runs: [first: number, last: number][] = [];
  for (const seed of seeds) {
    const run = runs.at(-1);
    if (run && run[1] === seed - 1) run[1] = seed;
    else runs.push([seed, seed]);
  }
  // A single number would be a number of seeds.
  if (runs.length === 1) return runs[0].join('..');
  return runs.map(([first, last]) => (first === last ? String(first) : `${first}..${last}`)).join();
}
