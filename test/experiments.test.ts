import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { UserError } from '../lib/errors';
import { meanInterval, studentT } from '../lib/lab/statistics';
import { measureTradeoffs } from '../lib/lab/tradeoffs';
import { addResult, byVariant, isClear, largestBudget, readResults, type TrialResult } from '../lib/lab/trialResults';

const folder = mkdtempSync(join(tmpdir(), 'experiments-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('intervals', () => {
  test('Student t is that of the tables', () => {
    for (const [freedom, t] of [[1, 12.7062], [2, 4.30265], [3, 3.18245], [4, 2.77645], [9, 2.26216], [30, 2.04227], [200, 1.97190]]) {
      expect(studentT(0.95, freedom)).toBeCloseTo(t, 4);
    }
    expect(studentT(0.99, 7)).toBeCloseTo(3.49948, 4);
  });

  test('of a mean, and none of one sample', () => {
    expect(meanInterval([1, 2, 3])).toEqual({ count: 3, mean: 2, half: expect.closeTo(2.48414, 4) });
    expect(meanInterval([5])).toEqual({ count: 1, mean: 5, half: null });
  });
});

const row = (variant: string, seed: number, top1: number, budget = 'a'): TrialResult => ({
  variant, seed, top1, budget, trial: `${variant}-${seed}-${budget}`, data: 'petals', train: 8, test: 4, classes: 2, model: 'edgevit-xxs', height: 32, width: 32, epochs: 1,
  batch: 4, params: 1, macs: 1, top5: 1, loss: 1, curve: [top1], imagesPerSecond: null, weights: '', engine: '', cpu: '', threads: 1, code: '',
});

describe('a file of results', () => {
  test('keeps one row for a trial', () => {
    const path = join(folder, 'rows.json');
    const rows = [row('full', 0, 0.5), row('other', 0, 0.4), row('full', 1, 0.6)];
    for (const each of [rows[0], rows[1], rows[2]]) addResult(path, each);
    expect(readResults(path)).toEqual(rows);
    addResult(path, { ...rows[1], top1: 0.45 });
    expect(readResults(path).map(({ top1 }) => top1)).toEqual([0.5, 0.6, 0.45]);
  });

  test('of another kind is refused', () => {
    const path = join(folder, 'broken.json');
    writeFileSync(path, '[{"variant": 3}]');
    expect(() => readResults(path)).toThrow(UserError);
    writeFileSync(path, '[{"variant": ');
    expect(() => readResults(path)).toThrow(UserError);
    expect(readResults(join(folder, 'none.json'))).toEqual([]);
  });

  test('compares seed by seed, within a budget', () => {
    const rows = [row('full', 0, 0.5), row('less', 0, 0.4), row('full', 1, 0.9), row('less', 1, 0.79), row('less', 2, 0.3), row('full', 0, 0.1, 'b')];
    const [full, less] = byVariant(largestBudget(rows), 'full');
    expect(full).toMatchObject({ variant: 'full', top1: { count: 2, mean: 0.7 }, difference: null });
    expect(less.top1.count).toBe(3);
    expect(less.difference).toMatchObject({ count: 2, mean: expect.closeTo(-0.105, 6) });
    expect(isClear(less.difference!)).toBe(true); // though the two means' own intervals overlap widely
    expect(byVariant(rows.slice(0, 4), variant => variant)[1].difference).toBeNull();
  });
});

test('trade-offs name their machine, and count what is published', async () => {
  const { machine, models } = await measureTradeoffs(['edgevit-xxs', 'mobilenet-v2'], [64, 64], { rounds: 2, perRound: 1, warmUp: 1, settle: 0 });
  expect(machine.cpu).not.toBe('');
  expect(models.map(({ model, params }) => [model, params])).toEqual([['edgevit-xxs', 4_067_704], ['mobilenet-v2', 3_504_872]]);
  for (const { milliseconds: { value, low, high } } of models) expect(low <= value && value <= high).toBe(true);
});
