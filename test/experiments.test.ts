import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { UserError } from '../lib/errors';
import { meanInterval, studentT } from '../lib/lab/statistics';
import { runSweep, type SweepOptions, type TrialOutcome } from '../lib/lab/sweep';
import { COMPARED, measureTradeoffs } from '../lib/lab/tradeoffs';
import { addResult, byVariant, isClear, largestBudget, readResults, type TrialResult } from '../lib/lab/trialResults';
import { tinyRecipe } from './training';

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
  batch: 4, params: 1, macs: 1, top5: 1, loss: 1, curve: [top1], imagesPerSecond: null, weights: '', engine: '', cpu: '',
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
  });
});

describe('a sweep', () => {
  const file = join(folder, 'sweep.json');
  const sweep = { base: tinyRecipe(), variants: { full: {}, nearest: { ablation: 'localPropNearest' } }, seeds: 2 };
  const told: TrialOutcome[] = [];
  const options = (signal = new AbortController().signal): SweepOptions => ({ signal, fileOf: () => file, onStart() {}, onTrial: outcome => void told.push(outcome) });

  test('broken off goes on where it was, to the same weights', async () => {
    const controller = new AbortController();
    const stopped = await runSweep(sweep, { ...options(controller.signal), onTrial: () => controller.abort() });
    expect(stopped).toBeUndefined();
    const [first] = readResults(file);
    expect(readResults(file)).toHaveLength(1);

    const rows = (await runSweep(sweep, options()))!;
    expect(rows.map(({ variant, seed }) => [variant, seed])).toEqual([['full', 0], ['nearest', 0], ['full', 1], ['nearest', 1]]);
    expect(told.map(outcome => 'known' in outcome && outcome.known)).toEqual([true, false, false, false]);
    expect(readResults(file)).toEqual(rows);
    expect(new Set(rows.map(({ budget }) => budget)).size).toBe(1);
    expect(new Set(rows.map(({ weights }) => weights)).size).toBe(4);

    const again = join(folder, 'again.json');
    const [repeated] = (await runSweep({ ...sweep, seeds: 1, variants: { full: {} } }, { ...options(), fileOf: () => again }))!;
    expect({ ...repeated, imagesPerSecond: 0 }).toEqual({ ...first, imagesPerSecond: 0 });
  });

  test('goes on past a network that diverges', async () => {
    told.length = 0;
    const rows = await runSweep({ base: tinyRecipe(), variants: { bad: { maxLoss: 1e-6 }, full: {} }, seeds: 1 }, options());
    expect(rows!.map(({ variant }) => variant)).toEqual(['full']);
    expect(told[0]).toMatchObject({ variant: 'bad', error: expect.stringContaining('diverged') });
  });
});

test('trade-offs name their machine, and count what is published', async () => {
  const { 'edgevit-xxs': xxs, 'mobilenet-v2': mobile } = COMPARED;
  const { machine, models } = await measureTradeoffs({ 'edgevit-xxs': xxs, 'mobilenet-v2': mobile }, [64, 64], { rounds: 2, perRound: 1, warmUp: 1, settle: 0 });
  expect(machine.cpu).not.toBe('');
  expect(models.map(({ model, params }) => [model, params])).toEqual([['edgevit-xxs', 4_067_704], ['mobilenet-v2', 3_504_872]]);
  for (const { milliseconds: { value, low, high } } of models) expect(low <= value && value <= high).toBe(true);
});
