import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, CommanderError } from 'commander';
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { experiment as lgl } from '../experiments/lgl';
import { register } from '../lib/cli/experiment';
import { asPublished } from '../lib/cli/support/sweepExperiment';
import { meanInterval, pooledDeviation, power, samplesNeeded, studentT } from '../lib/measure/statistics';
import { experimentCommands } from '../lib/report/commands';
import { experimentSection } from '../lib/report/experimentSections';
import { tradeoffSection } from '../lib/report/tradeoffSections';
import { type Environment, environment, NUMERICS } from '../lib/runs/environment';
import { formatSeeds, parseSeeds } from '../lib/runs/seeds';
import { listRuns, type Run } from '../lib/runs/store';
import { measureTradeoffs } from '../lib/runs/tradeoffs';
import {
  byVariant,
  equalWeights,
  isClear,
  largestBudget,
  leftOut,
  putResults,
  readResults,
  type TrialResult,
} from '../lib/runs/trialResults';
import { UserError } from '../lib/util/errors';
import { ROOT } from '../lib/util/root';
import { DATA, tinyRecipe } from './training';

const folder = mkdtempSync(join(tmpdir(), 'experiments-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('intervals', () => {
  test('power of the t-test is that of G*Power 3.1', () => {
    expect(power(0.5, 1, 34)).toBeCloseTo(0.8078, 4);
    expect(power(0, 1, 10)).toBeCloseTo(0.05, 5);
    expect([0.2, 0.5, 0.8, 1].map(effect => samplesNeeded(effect, 1))).toEqual([199, 34, 15, 10]);
    // Where half of the interval is as long as the effect, one experiment in two misses it.
    const half = studentT(0.95, 9) / Math.sqrt(10);
    expect(power(half, 1, 10)).toBeGreaterThan(0.45);
    expect(power(half, 1, 10)).toBeLessThan(0.55);
  });

  test('the pooled deviation is that of the samples', () => {
    const samples = [
      [1, 2, 3],
      [10, 14],
    ];
    const squares = 2 + 8; // around their own means, with 2 and 1 degrees of freedom
    expect(pooledDeviation([...samples.map(all => meanInterval(all)), meanInterval([5])])).toBeCloseTo(
      Math.sqrt(squares / 3),
      6,
    );
    expect(() => pooledDeviation([meanInterval([5])])).toThrow(RangeError);
  });

  test('Student t is that of the tables', () => {
    for (const [freedom, t] of [
      [1, 12.7062],
      [2, 4.30265],
      [3, 3.18245],
      [4, 2.77645],
      [9, 2.26216],
      [30, 2.04227],
      [200, 1.9719],
    ]) {
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
  variant,
  seed,
  top1,
  budget,
  trial: `${variant}-${seed}-${budget}`,
  data: 'petals',
  train: 8,
  test: 4,
  classes: 2,
  model: 'edgevit-xxs',
  height: 32,
  width: 32,
  epochs: 1,
  batch: 4,
  params: 1,
  macs: 1,
  top5: 1,
  loss: 1,
  curve: [top1],
  imagesPerSecond: null,
  weights: '',
  engine: '',
  cpu: '',
  threads: 1,
  code: '',
  numerics: 0,
  origin: null,
});

const origin = (changes: Partial<Environment>): TrialResult['origin'] => ({
  recipe: tinyRecipe(),
  recipeVersion: 1,
  asked: {},
  dataOptions: {},
  fingerprint: '',
  environment: { ...environment(), ...changes },
});

describe('a file of results', () => {
  test('keeps one row for a trial', () => {
    const path = join(folder, 'rows.json');
    const rows = [row('full', 0, 0.5), row('other', 0, 0.4), row('full', 1, 0.6)];
    putResults(path, rows);
    expect(readResults(path)).toEqual(rows);
    putResults(path, [{ ...rows[1], top1: 0.45 }]);
    expect(readResults(path).map(({ top1 }) => top1)).toEqual([0.5, 0.6, 0.45]);
  });

  test('with a row twice is refused, and equal weights of two variants are named', () => {
    const path = join(folder, 'twice.json');
    const rows = [row('full', 0, 0.5), row('full', 1, 0.6)];
    writeFileSync(
      path,
      JSON.stringify(
        [...rows, { ...rows[0], trial: 'another key' }].map(({ numerics: _, origin: __, ...each }) => each),
      ),
    );
    expect(() => readResults(path)).toThrow(/'full', seed 0.* twice/);
    const same = [row('full', 0, 0.5), row('less', 0, 0.5), row('less', 1, 0.5)];
    expect(equalWeights(same.map(each => ({ ...each, weights: `w${each.seed}` })))).toEqual([
      { seed: 0, variants: ['full', 'less'] },
    ]);
  });

  test('shows of two budgets the larger, of equal ones the later, and says what is left out', () => {
    const rows = [row('full', 0, 0.5, 'old'), row('full', 0, 0.6, 'new')];
    expect(largestBudget(rows)).toEqual([rows[1]]);
    expect(leftOut(rows, [rows[1]])).toEqual([[rows[0]]]);
    expect(experimentSection(lgl.reported!, 'petals', rows).text.join()).toMatch(/Left out is 1 row of other budgets/);
    const numerics = [row('full', 0, 0.5), { ...row('full', 0, 0.7), numerics: 1 }];
    expect(largestBudget(numerics)).toEqual([numerics[1]]);
  });

  test('says of a single seed that it has no interval', () => {
    const seeds = (count: number) =>
      Array.from({ length: count }, (_, i) => [row('full', i, 0.5), row('less', i, 0.4)]);
    const single = experimentSection(lgl.reported!, 'petals', seeds(1).flat());
    expect(single.text.join()).toMatch(/no CI/);
    expect(single.text.join()).not.toMatch(/includes? 0|excludes? 0/);
    expect(single.tables[0].rows.map(({ clear }) => clear)).toEqual(['–', '–']);
    const [{ verdict: said }] = (single.charts['lgl-differences'].data as { values: { verdict: string }[] }).values;
    expect(said).toMatch(/no CI/);
    const both = experimentSection(lgl.reported!, 'petals', [...seeds(2).flat(), row('other', 0, 0.3)]);
    expect(both.text.join()).toMatch(
      /one difference excludes 0; 1 difference of a single seed has none.*Of 1 comparison /,
    );
  });

  test('is compared with what is published by what can decide bytes', () => {
    const here = { ...row('full', 0, 0.5), weights: 'a', origin: origin({ kernels: 'own' }) };
    const published = (weights: string, changes: Partial<Environment>) => [
      { ...here, weights, origin: origin({ kernels: 'own', ...changes }) },
    ];
    expect(asPublished([here], published('a', { cpu: 'another' }))).toBe('1 of 1');
    expect(asPublished([here], published('b', { cpu: 'another', threads: 64, code: 'another' }))).toBe('0 of 1');
    expect(asPublished([here], published('b', { cpu: 'another', numerics: 1 }))).toBe('0 of 1 (other numerics)');
    expect(asPublished([here], published('b', { variables: 'X=1' }))).toBe('0 of 1 (other environment variables)');
    expect(asPublished([here], [{ ...here, weights: 'b', origin: null }])).toBe('0 of 1 (other numerics)');
    expect(asPublished([here], [])).toBe('–');
  });

  test('names all variants that have the highest mean', () => {
    const rows = [
      row('full', 0, 0.1),
      row('full', 1, 0.5),
      row('less', 0, 0.5),
      row('less', 1, 0.1),
      row('other', 0, 0.2),
    ];
    expect(experimentSection(lgl.reported!, 'petals', rows).captions['lgl-runs']).toMatch(
      /^full, less have the highest/,
    );
  });

  test('is drawn filled where a commit makes its rows again, else hollow', () => {
    const marks = (git: Environment['git']) => {
      const rows = [0, 1].map(seed => ({ ...row('full', seed, 0.5), numerics: NUMERICS, origin: origin({ git }) }));
      return JSON.stringify(experimentSection(lgl.reported!, 'petals', rows).charts);
    };
    const commit = '0123456789abcdef0123456789abcdef01234567';
    expect(marks({ commit, dirty: false })).toContain('"filled":true');
    for (const none of [{ commit, dirty: true }, null]) expect(marks(none)).not.toContain('"filled":true');
  });

  test('has one command for all rows only where one asks for what each was trained with', () => {
    const commands = (variables: string[]) =>
      Object.keys(
        experimentCommands(
          'lgl',
          variables.map((variables, seed) => ({ ...row('full', seed, 0.5), origin: origin({ variables }) })),
        ),
      );
    const each = ['full, seed 0', 'full, seed 1'];
    expect(commands(['', ''])).toEqual(['all of it', 'full', ...each]);
    expect(commands(['', 'EDGEVIT_FUSED=0'])).toEqual(each);
  });

  test('of networks with accuracies and costs says what is left out there too', () => {
    const rows = [row('edgevit-xxs', 0, 0.5, 'old'), row('edgevit-xxs', 0, 0.6, 'new')];
    expect(tradeoffSection(rows, undefined).text.join()).toMatch(/Left out is 1 row/);
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
    const rows = [
      row('full', 0, 0.5),
      row('less', 0, 0.4),
      row('full', 1, 0.9),
      row('less', 1, 0.79),
      row('less', 2, 0.3),
      row('full', 0, 0.1, 'b'),
    ];
    const [full, less] = byVariant(largestBudget(rows), 'full');
    expect(full).toMatchObject({ variant: 'full', top1: { count: 2, mean: 0.7 }, difference: null });
    expect(less.top1.count).toBe(3);
    expect(less.difference).toMatchObject({ count: 2, mean: expect.closeTo(-0.105, 6) });
    expect(isClear(less.difference!)).toBe(true); // though the two means' own intervals overlap widely
    expect(byVariant(rows.slice(0, 4), variant => variant)[1].difference).toBeNull();
  });
});

test('trade-offs name their machine, and count what is published', async () => {
  const { machine, models } = await measureTradeoffs(['edgevit-xxs', 'mobilenet-v2'], [64, 64], {
    rounds: 2,
    perRound: 1,
    warmUp: 1,
    settle: 0,
  });
  expect(machine.cpu).not.toBe('');
  expect(models.map(({ model, params }) => [model, params])).toEqual([
    ['edgevit-xxs', 4_067_704],
    ['mobilenet-v2', 3_504_872],
  ]);
  for (const {
    milliseconds: { value, low, high },
  } of models)
    expect(low <= value && value <= high).toBe(true);
});

test('seeds are a number of them, a range or a list, and are told so that they are read again', () => {
  for (const [text, seeds] of [
    ['3', [0, 1, 2]],
    ['3..5', [3, 4, 5]],
    ['7..7', [7]],
    ['9,0,4..5', [0, 4, 5, 9]],
  ] as const) {
    expect(parseSeeds(text)).toEqual(seeds);
    expect(parseSeeds(formatSeeds(seeds))).toEqual(seeds);
  }
  for (const text of ['0', '5..3', '1..2000', '1001', 'x', '1,', '-1', '99999999999', '1.5'])
    expect(() => parseSeeds(text), text).toThrow(UserError);
});

describe('an experiment', () => {
  const runs = join(folder, 'runs');
  const small = [
    `--data=${DATA}`,
    '--size=32',
    '--only=full,noLocalAgg',
    '--seeds=1',
    `--runs=${runs}`,
    ...['batch=4', 'depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2'].flatMap(setting => ['--set', setting]),
  ];

  const parse = async (args: string[]): Promise<void> => {
    const program = new Command().exitOverride().configureOutput({ outputError: () => {} });
    await register(program);
    await program.parseAsync(['experiment', ...args], { from: 'user' });
  };

  test.each<[string, string[], string[]]>([
    ['name', ['lgls'], ['lgls', 'sample-rates']],
    ['variant', ['lgl', ...small, '--only=none'], ['none', 'noLocalAgg']],
    ['variant of sample rates', ['sample-rates', '--only=4,2,2,2'], ['4,2,2,2', '4,2,2,1']],
    ['setting', ['lgl', ...small, '--set', 'learningRate=1'], ['learningRate', 'sampleRates']],
    [
      'setting that the variants make',
      ['lgl', ...small, '--set', 'ablation=fullAttention'],
      ['ablation', 'fullAttention'],
    ],
    ['number of seeds', ['lgl', ...small, '--seeds=0'], ['--seeds', '0']],
    ['number of trials at once', ['lgl', ...small, '--jobs=1000000'], ['--jobs', '1000000']],
    ['number of retries', ['lgl', ...small, '--retries=-1'], ['--retries', '-1']],
    ['flag for it', ['quick', '--seeds=2'], ['--seeds']],
    ['option', ['lgl', '--seed=2'], ['--seed']],
    ['folder of images', ['lgl', ...small, '--data=folder:nowhere'], ['nowhere']],
  ])('says what is wrong with a bad %s', async (_what, args, words) => {
    const error = await parse(args).catch((thrown: unknown) => thrown);
    expect(error instanceof UserError || error instanceof CommanderError).toBe(true); // what the commands' entrance turns into exit 2
    for (const word of words) expect((error as Error).message).toContain(word);
    expect(existsSync(runs)).toBe(false);
  });

  test('lists its trials in a dry run, and writes nothing', async () => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => {});
    try {
      await parse(['lgl', ...small, '--dry-run']);
      expect(
        log.mock.calls
          .flat()
          .join('\n')
          .match(/^(full|noLocalAgg) .* to do /gm),
      ).toHaveLength(2);
      expect(existsSync(runs)).toBe(false);
    } finally {
      log.mockRestore();
    }
  });

  test('that is killed takes its trials with it, and one that is interrupted resumes and ends with 130', async () => {
    const trials = (): Run[] => listRuns(runs);
    const progress = (): number =>
      Math.min(trials().length < 2 ? 0 : Infinity, ...trials().map(run => run.metrics().length));
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition()) await sleep(20);
    };
    const start = () => {
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', 'lib/cli/main.ts', 'experiment', 'lgl', ...small, '--epochs=100000', '--jobs=2'],
        { cwd: ROOT, stdio: 'ignore', detached: true },
      );
      onTestFinished(() => void child.kill('SIGKILL')); // its trials end with it
      return { child, ended: new Promise<number | null>(resolve => child.once('exit', resolve)) };
    };
    const expectInterrupted = (): void => {
      for (const run of trials()) {
        expect(run.record.status).toBe('interrupted'); // as the trial itself wrote
        expect(run.alteredFiles()).toEqual([]);
        expect(existsSync(run.lastCheckpoint)).toBe(true);
      }
    };

    const { child, ended } = start();
    await until(() => progress() >= 8);
    child.kill('SIGKILL');
    expect(await ended).toBeNull();
    await until(() => trials().every(({ record }) => record.status !== 'running'));
    expectInterrupted();

    const before = trials().map(run => [run.record.name, run.metrics().at(-1)!.step]);
    const again = start();
    await until(() => trials().every(({ record }) => record.resumedAt.length > 0));
    process.kill(-again.child.pid!, 'SIGINT'); // to all of them, as a terminal does
    expect(await again.ended).toBe(130);
    expectInterrupted();
    expect(trials().map(({ record }) => [record.name, record.resumedAt[0]])).toEqual(before);
  }, 400_000);
});
