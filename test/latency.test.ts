import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { describe, expect, it, vi } from 'vitest';
import { register } from '../lib/cli/latency';
import { bootstrap, type Contender, interleave, speedUp, stopwatch, timeQuantile } from '../lib/measure/latency';
import { measureLatency } from '../lib/measure/latencyTable';
import { median, quantile } from '../lib/measure/statistics';
import { chromeTrace, totalsByOp, wallTime } from '../lib/measure/timeline';
import { UserError } from '../lib/util/errors';
import { random } from '../lib/util/random';

describe('interleave', () => {
  it('runs one contender at a time, each round begun by the next, and drops warm-up and the start of each turn', async () => {
    const order: string[] = [];
    const contender = (name: string): Contender => {
      let run = 0;
      return {
        name,
        async run(count) {
          order.push(`${name}${count}`);
          return Array.from({ length: count }, () => run++);
        },
      };
    };
    const turns = await interleave(['a', 'b', 'c'].map(contender), { rounds: 3, perRound: 2, warmUp: 5, settle: 1 });
    expect(order).toEqual(['a5', 'b5', 'c5', 'a3', 'b3', 'c3', 'b3', 'c3', 'a3', 'c3', 'a3', 'b3']);
    for (const rounds of turns)
      expect(rounds).toEqual([
        [6, 7],
        [9, 10],
        [12, 13],
      ]);
  });
});

describe('statistics', () => {
  it("interpolates quantiles as numpy's default does", () => {
    const samples = [3, 1, 10, 2]; // np.quantile([1, 2, 3, 10], [0, .25, .5, .9, 1])
    const expected = [
      [0, 1],
      [0.25, 1.75],
      [0.5, 2.5],
      [0.9, 7.9],
      [1, 10],
    ];
    for (const [q, value] of expected) expect(quantile(samples, q)).toBeCloseTo(value, 12);
    expect(median([7])).toBe(7);
  });

  it('gives intervals that hold the truth as often as they promise', () => {
    const rng = random('coverage');
    const trials = 200;
    let held = 0;
    for (let trial = 0; trial < trials; trial++) {
      const samples = Array.from({ length: 30 }, () => rng.normal());
      const { low, high } = bootstrap(samples, median, { resamples: 200, seed: trial });
      if (low <= 0 && 0 <= high) held++;
    }
    // 95 %, give or take three standard deviations of 200 trials
    expect(held / trials).toBeGreaterThan(0.95 - 3 * Math.sqrt((0.95 * 0.05) / trials));
  });

  it('gives equal samples equal intervals', () => {
    expect(bootstrap([1, 2, 3, 4], median)).toEqual(bootstrap([1, 2, 3, 4], median));
  });

  it('compares within rounds, so that a machine that slows down changes nothing', () => {
    const ours = [
      [1, 1.1],
      [2, 2.2],
      [4, 4.4],
    ];
    const theirs = ours.map(round => round.map(seconds => 1.5 * seconds));
    const { value, low, high } = speedUp(theirs, ours);
    for (const ratio of [value, low, high]) expect(ratio).toBeCloseTo(1.5, 12);
  });

  it('times what a function does, in seconds', () => {
    const [seconds] = stopwatch('wait', () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)).run(
      1,
    ) as number[];
    expect(seconds).toBeGreaterThanOrEqual(0.019);
    expect(seconds).toBeLessThan(20); // not milliseconds
  });
});

describe('a time quantile', () => {
  it('is one of all timings, with an interval by rounds', () => {
    const rounds = Array.from({ length: 20 }, (_, round) => Array.from({ length: 10 }, (_, i) => round + i / 100));
    const { value, low, high } = timeQuantile(rounds, 0.9)!;
    expect(value).toBe(quantile(rounds.flat(), 0.9));
    expect(low).toBeLessThan(value);
    expect(high).toBeGreaterThan(value);
    // Timings of a round are alike here: twenty rounds tell about as much as twenty timings, not as two hundred.
    expect(high - low).toBeGreaterThan(2);
  });

  it('is unknown where nothing lies beyond it', () => {
    const timings = (count: number): number[][] => [Array.from({ length: count }, (_, i) => i)];
    expect([5, 10].map(count => timeQuantile(timings(count), 0.9) !== null)).toEqual([false, true]);
    expect([99, 100].map(count => timeQuantile(timings(count), 0.99) !== null)).toEqual([false, true]);
  });
});

describe('latency', () => {
  const plan = { rounds: 2, perRound: 5, warmUp: 1, settle: 1 };

  it('is measured of each model by each engine, pure JavaScript in a process of its own', async () => {
    const { machine, rows } = await measureLatency({
      models: ['edgevit-xxs', 'mobilenet-v2'],
      engines: ['eager', 'compiled', 'js'],
      size: [32, 32],
      batch: 2,
      plan,
      jsPlan: { rounds: 2, perRound: 1, warmUp: 0, settle: 0 },
    });
    expect(machine).toMatchObject({
      cpu: expect.stringMatching(/./),
      engine: expect.stringMatching(/TensorFlow \d/),
      node: process.version,
    });
    expect(rows.map(({ model, engine, timings }) => [model, engine, timings])).toEqual([
      ['edgevit-xxs', 'eager', 10],
      ['edgevit-xxs', 'compiled', 10],
      ['mobilenet-v2', 'eager', 10],
      ['mobilenet-v2', 'compiled', 10],
      ['edgevit-xxs', 'js', 2],
      ['mobilenet-v2', 'js', 2],
    ]);
    for (const {
      milliseconds: { value, low, high },
      p90,
      p99,
      timings,
    } of rows) {
      expect(low <= value && value <= high).toBe(true);
      expect(p99).toBeNull();
      if (timings === 10) expect(p90!.value).toBeGreaterThanOrEqual(value);
    }
  });

  const command = (...args: string[]): Promise<unknown> => {
    const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
    register(program);
    for (const each of program.commands) each.exitOverride().configureOutput({ writeErr: () => {} });
    return program.parseAsync(['latency', ...args], { from: 'user' });
  };

  it.each([
    ['no model', []],
    ['an unknown model', ['resnet']],
    ['an unknown engine', ['edgevit-xxs', '--engines=gpu']],
    ['no engine', ['edgevit-xxs', '--engines=']],
    ['a size', ['edgevit-xxs', '--size=big']],
    ['a size that does not fit', ['edgevit-xxs', '--size=50']],
    ['a batch', ['edgevit-xxs', '--batch=0']],
    ['rounds', ['edgevit-xxs', '--rounds=-1']],
    ['a folder for a file', ['edgevit-xxs', `--json=${tmpdir()}`]],
  ])('refuses %s in a sentence', async (_, args) => {
    const error = await command(...args).catch((thrown: unknown) => thrown);
    expect(error instanceof UserError || error instanceof CommanderError, String(error)).toBe(true);
    expect((error as Error).message.trim()).not.toContain('\n');
  });

  it('is written as JSON too', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'latency-'));
    try {
      const path = join(folder, 'times.json');
      const print = vi.spyOn(console, 'log').mockImplementation(() => {});
      await command(
        'mobilenet-v2',
        '--size=32',
        '--rounds=1',
        '--engines=compiled,onnx,onnx-int8,wasm',
        `--json=${path}`,
      );
      print.mockRestore();
      expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({
        size: [32, 32],
        batch: 1,
        rows: ['compiled', 'onnx', 'onnx-int8', 'wasm'].map(engine => ({
          model: 'mobilenet-v2',
          engine,
          timings: 10,
          params: 3_504_872,
        })),
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('timeline', () => {
  const timing = (node: string, op: string, start: number, duration: number, memory = '') => ({
    node,
    label: `${memory}${node} = ${op}(x, y)`,
    thread: 0,
    start,
    duration,
  });
  const timings = [
    timing('b', 'MatMul', 10, 30, '[cpu 1.3MB 1.3MB] '),
    timing('a', 'MatMul', 0, 20),
    timing('c', 'Add', 25, 5),
    timing('d', 'Add', 45, 5),
  ];

  it('adds up op types', () => {
    expect(totalsByOp(timings)).toEqual([
      { op: 'MatMul', count: 2, total: 50 },
      { op: 'Add', count: 2, total: 10 },
    ]);
    expect(wallTime(timings)).toBe(50);
  });

  it('puts kernels that overlap on different lanes', () => {
    const { traceEvents } = JSON.parse(chromeTrace(timings)) as {
      traceEvents: { args: { node: string }; tid: number }[];
    };
    expect(traceEvents.map(({ args, tid }) => [args.node, tid])).toEqual([
      ['a', 0],
      ['b', 1],
      ['c', 0],
      ['d', 0],
    ]);
  });
});
