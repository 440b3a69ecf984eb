import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { atan2, cos, exp, log, sin } from '../lib/util/elementary';
import { random } from '../lib/util/random';
import { ROOT } from '../lib/util/root';

/** How many doubles lie between two of one sign. */
function distance(a: number, b: number): number {
  if (Object.is(a, b)) return 0;
  if (!Number.isFinite(a) || !Number.isFinite(b)) return Number.POSITIVE_INFINITY;
  const [p, q] = new BigInt64Array(new Float64Array([a, b]).buffer);
  const least = BigInt.asIntN(64, 1n << 63n);
  const order = (bits: bigint): bigint => (bits < 0n ? least - bits : bits);
  const between = Number(order(p!) - order(q!));
  return Math.abs(between);
}

const rng = random('elementary');
const between = (low: number, high: number) => low + (high - low) * rng.uniform();

// Engines promise nothing, but are within a unit in the last place of the true value, as ours are.
test.each<[string, (...values: number[]) => number, (...values: number[]) => number, () => number[]]>([
  ['exp', exp, Math.exp, () => [between(-745, 709)]],
  ['exp, near 0', exp, Math.exp, () => [between(-1e-3, 1e-3)]],
  ['log', log, Math.log, () => [1 - rng.uniform()]],
  ['log, of all sizes', log, Math.log, () => [10 ** between(-320, 308)]],
  ['log, near 1', log, Math.log, () => [between(0.999, 1.001)]],
  ['sin', sin, Math.sin, () => [between(-10, 10)]],
  ['sin, far', sin, Math.sin, () => [between(-1e6, 1e6)]],
  ['cos', cos, Math.cos, () => [between(-10, 10)]],
  ['cos, far', cos, Math.cos, () => [between(-1e6, 1e6)]],
  ['atan2', atan2, Math.atan2, () => [between(-1, 1), between(-1, 1)]],
  ['atan2, of all sizes', atan2, Math.atan2, () => [10 ** between(-300, 300), -(10 ** between(-5, 5))]],
])('%s is right to the last place but one', (_, ours, theirs, values) => {
  for (let i = 0; i < 20_000; i++) {
    const given = values();
    expect(distance(ours(...given), theirs(...given)), `of ${given}`).toBeLessThanOrEqual(2);
  }
});

const SPECIAL = [0, -0, 1, -1, Infinity, -Infinity, NaN, 5e-324, -5e-324, 2 ** -1022, Number.MAX_VALUE];

test('what is not in the ordinary range is as the language has it', () => {
  for (const x of SPECIAL) {
    expect(distance(exp(x), Math.exp(x)), `exp ${x}`).toBeLessThanOrEqual(1);
    expect(distance(log(x), Math.log(x)), `log ${x}`).toBeLessThanOrEqual(1);
    for (const y of SPECIAL) expect(distance(atan2(y, x), Math.atan2(y, x)), `atan2 ${y}, ${x}`).toBeLessThanOrEqual(1);
    if (Math.abs(x) !== Number.MAX_VALUE)
      for (const [ours, theirs] of [
        [sin, Math.sin],
        [cos, Math.cos],
      ])
        expect(distance(ours!(x), theirs!(x)), `of ${x}`).toBeLessThanOrEqual(1);
  }
  expect(() => sin(1e7)).toThrow(RangeError);
  expect(() => cos(-1e7)).toThrow(RangeError);
});

test('whatever computes results takes nothing of Math that engines round differently', () => {
  const rooms = ['util', 'tensor', 'model', 'engine', 'weights', 'data', 'train'];
  const inexact = /Math\.(?:exp|expm1|log|log2|log10|log1p|pow|cbrt|hypot|a?(?:sin|cos|tan)h?|atan2)\b/;
  const found = rooms.flatMap(room =>
    readdirSync(join(ROOT, 'lib', room), { recursive: true, encoding: 'utf8' })
      .filter(path => path.endsWith('.ts'))
      .map(path => join('lib', room, path))
      .filter(path => inexact.test(readFileSync(join(ROOT, path), 'utf8'))),
  );
  expect(found).toEqual([]);
});
