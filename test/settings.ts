import type { z } from 'zod';
import { random } from '../lib/util/random';

/** A configuration as `createModel` takes it. */
export type Settings = Record<string, unknown>;

/**
 * The values of each setting that a test has to try: its default first; every flag flipped, every choice, and another value of each number.
 * Taken from the schema itself, so that a setting that is added is tried as well.
 */
export function levels(schema: z.ZodObject, base: Settings): Map<string, readonly unknown[]> {
  const all = new Map<string, readonly unknown[]>();
  for (const [key, type] of Object.entries(schema.shape)) {
    const usual = base[key];
    const allowed = candidates(usual, type as z.ZodType).filter(
      value => JSON.stringify(value) !== JSON.stringify(usual) && schema.safeParse({ ...base, [key]: value }).success,
    );
    // Of numbers one other value is enough; flags and choices are tried in full.
    const others =
      typeof usual === 'number' || (Array.isArray(usual) && typeof usual[0] === 'number')
        ? allowed.slice(0, 1)
        : allowed;
    const distinct = [...new Map([usual, ...others].map(value => [JSON.stringify(value), value])).values()];
    if (distinct.length < 2) throw new Error(`No second value is known for the setting '${key}'.`);
    all.set(key, distinct);
  }
  return all;
}

function candidates(usual: unknown, type: z.ZodType): unknown[] {
  if (typeof usual === 'boolean') return [!usual];
  if (typeof usual === 'string') return optionsOf(type);
  if (typeof usual === 'number')
    return usual >= 1 ? [usual * 2, usual + 2, usual - 1] : [usual / 2, usual * 1.5, usual + 0.05];
  if (Array.isArray(usual) && typeof usual[0] === 'boolean') return [usual.map(() => true), usual.map(() => false)];
  if (Array.isArray(usual))
    return [usual.map((value: number) => Math.max(1, Math.floor(value / 2))), usual.map((value: number) => value * 2)];
  return [];
}

/** The options of a choice, whatever it is wrapped in. */
function optionsOf(type: z.ZodType): string[] {
  const { def } = type as unknown as {
    def: { entries?: Record<string, string>; innerType?: z.ZodType; in?: z.ZodType; out?: z.ZodType };
  };
  if (def.entries) return Object.values(def.entries);
  for (const inner of [def.innerType, def.out, def.in]) {
    const options = inner ? optionsOf(inner) : [];
    if (options.length > 0) return options;
  }
  return [];
}

/**
 * Few configurations in which every two values of different settings meet at least once, except in those that `allowed` refuses
 * (greedy; Cohen et al., "The AETG System", IEEE TSE 23(7), 1997).
 */
export function pairwise(
  factors: ReadonlyMap<string, readonly unknown[]>,
  allowed: (settings: Settings) => boolean,
): Settings[] {
  const keys = [...factors.keys()];
  const rng = random('pairwise');
  const name = (a: string, i: number, b: string, j: number): string =>
    keys.indexOf(a) < keys.indexOf(b) ? `${a}=${i}|${b}=${j}` : `${b}=${j}|${a}=${i}`;
  const open = new Set<string>();
  for (const [x, a] of keys.entries())
    for (const b of keys.slice(x + 1))
      factors.get(a)!.forEach((_, i) => factors.get(b)!.forEach((__, j) => void open.add(name(a, i, b, j))));
  const toSettings = (row: ReadonlyMap<string, number>): Settings =>
    Object.fromEntries([...row].map(([key, i]) => [key, factors.get(key)![i]]));
  const rows: Settings[] = [];
  if (keys.length === 1) return factors.get(keys[0]!)!.map(value => ({ [keys[0]!]: value }));
  for (let barren = 0; open.size > 0 && barren < 50; ) {
    const row = new Map<string, number>();
    // Begins with a pair that is still open, and fills the rest by what covers most.
    const [first] = open;
    const [[a, i], [b, j]] = first!.split('|').map(part => part.split('=')) as [[string, string], [string, string]];
    row.set(a, Number(i)).set(b, Number(j));
    const order = keys.filter(key => !row.has(key)).sort(() => rng.uniform() - 0.5);
    for (const key of order) {
      const gains = factors
        .get(key)!
        .map((_, level) => [...row].filter(([other, at]) => open.has(name(key, level, other, at))).length);
      row.set(key, gains.indexOf(Math.max(...gains)));
    }
    const settings = toSettings(row);
    const covered = [...row].flatMap(([key, level], x) =>
      [...row].slice(x + 1).map(([other, at]) => name(key, level, other, at)),
    );
    if (allowed(settings)) {
      covered.forEach(pair => void open.delete(pair));
      rows.push(settings);
      barren = 0;
    } else {
      open.delete(first!); // may be met by another row; a pair that no allowed row has can't be covered
      barren++;
    }
  }
  return rows;
}
