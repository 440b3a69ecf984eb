import { describe, expect, test } from 'vitest';
import type { ParamKind } from '../lib/tensor/layout';
import { fromTorch, toChannelsFirst, toChannelsLast, torchShape, toTorch } from '../lib/tensor/layout';

const range = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => i);

describe.each<[ParamKind, number[], number[]]>([
  ['conv', [2, 3, 4, 5], [5, 4, 2, 3]],
  ['depthwise', [2, 3, 4, 1], [4, 1, 2, 3]],
  ['localProp', [2, 2, 3], [3, 1, 2, 2]],
  ['linear', [4, 5], [5, 4]],
  ['plain', [7], [7]],
  ['plain', [1, 3, 2], [1, 3, 2]],
])('%s %j', (kind, shape, official) => {
  const values = range(shape.reduce((a, b) => a * b));

  test('has its official shape', () => expect(torchShape({ kind, shape })).toEqual(official));

  test('comes back from PyTorch as it went', () =>
    expect(fromTorch({ kind, shape }, toTorch({ kind, shape }, values))).toEqual(values));
});

test('values go where PyTorch has them', () => {
  // Ours [kh, kw, in, out] = [1, 2, 2, 3]: value at (0, x, i, o) is 6x + 3i + o.
  expect([...toTorch({ kind: 'conv', shape: [1, 2, 2, 3] }, range(12))]).toEqual([
    0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11,
  ]);
  expect([...toTorch({ kind: 'linear', shape: [2, 3] }, range(6))]).toEqual([0, 3, 1, 4, 2, 5]);
  expect([...toTorch({ kind: 'localProp', shape: [2, 2, 2] }, range(8))]).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
});

test('images change between channels first and last', () => {
  expect([...toChannelsLast(range(12), [1, 3, 2, 2])]).toEqual([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
  expect(toChannelsFirst(toChannelsLast(range(120), [2, 3, 4, 5]), [2, 4, 5, 3])).toEqual(range(120));
});
