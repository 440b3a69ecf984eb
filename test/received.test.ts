import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeReport } from '../lib/report/runReport';
import type { Backend } from '../lib/runs/backends/backend';
import { makeBundle } from '../lib/runs/bundle';
import { consoleReporter } from '../lib/runs/console';
import { resultsCache } from '../lib/runs/received';
import { planSweep, resolveSweep, runSweep, type SweepPlan } from '../lib/runs/sweep';
import { findTrial, readTrialFile, runTrial } from '../lib/runs/trialFile';
import { threadsPerOp } from '../lib/util/threads';
import { dataset, sha256, tinyRecipe } from './training';

const folder = mkdtempSync(join(tmpdir(), 'received-'));
afterAll(() => rmSync(folder, { recursive: true }));

const CACHE = join(folder, 'cache');
const said: string[] = [];
const trained: string[] = [];

/** Trains in this process. */
const backend = (runs: string): Backend => ({
  description: 'here',
  async run(tasks, progress) {
    for (const task of tasks) {
      trained.push(task.name);
      const reporter = consoleReporter({ write: () => true });
      await runTrial(readTrialFile(task.file), runs, { reporter, writeReport });
      progress.ended(task, '');
    }
  },
  farewell: () => '',
});

/** Two trials into a folder, with the cache, of images that are called `images`. */
async function sweep(name: string, images = dataset.name): Promise<SweepPlan> {
  const runs = join(folder, name);
  const setting = { runs, threads: threadsPerOp() };
  const variants = { full: {}, averaged: { ema: 0 } };
  const asked = resolveSweep({ base: tinyRecipe({ epochs: 1 }), variants, seeds: [0], varied: ['ema'] });
  const plan = planSweep(asked, { ...dataset, name: images }, setting);
  const cache = resultsCache(CACHE, {
    bundle: run => makeBundle(run, writeReport),
    writeReport,
    say: line => said.push(line),
  });
  trained.length = said.length = 0;
  await runSweep(plan, { backend: backend(runs), cache, signal: new AbortController().signal, onChange() {} });
  return plan;
}

const files = (): string[] =>
  readdirSync(CACHE, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .sort();

let first: SweepPlan;
beforeAll(async () => {
  first = await sweep('first');
});

test('a trial in the cache is taken, not trained, as the run folder that it was', async () => {
  expect(trained).toHaveLength(2);
  expect(files().map(file => file.slice(-68, -4))).toEqual(first.trials.map(({ digest }) => digest).sort());
  const second = await sweep('second');
  expect(trained).toEqual([]);
  expect(second.trials.map(({ row }) => row)).toEqual(first.trials.map(({ row }) => row));
  for (const { name } of first.trials) {
    const [before, after] = [first, second].map(({ runs }) => findTrial(runs, name)!);
    // What was printed while it trained stays where it trained.
    expect(readdirSync(after.folder).sort()).toEqual(
      readdirSync(before.folder)
        .sort()
        .filter(file => file !== 'log.txt'),
    );
    expect(after.alteredFiles()).toEqual([]);
    for (const file of Object.keys(before.record.files))
      expect(sha256(join(after.folder, file)), file).toBe(sha256(join(before.folder, file)));
  }
});

test('a trial is known by its digest, whatever its folder of images is called', async () => {
  const { runs, trials } = await sweep('renamed', 'gathered');
  expect(trained).toEqual([]);
  for (const { name } of trials) {
    expect(name).toContain('gathered');
    const { record } = findTrial(runs, name)!;
    expect([record.name, record.dataset.name]).toEqual([name, 'gathered']);
  }
});

test('what is damaged, or is another trial than its address says, is told, trained and replaced', async () => {
  const [one, two] = files();
  const whole = readFileSync(one);
  const damaged = Buffer.from(whole);
  damaged[damaged.length >> 1] ^= 1;
  writeFileSync(one, damaged);
  await sweep('damaged');
  expect(trained).toHaveLength(1);
  expect(said).toHaveLength(1);
  await sweep('mended');
  expect(trained).toEqual([]);

  copyFileSync(two, one);
  await sweep('exchanged');
  expect(trained).toHaveLength(1);
  expect(said[0]).toContain('holds the trial');
  expect(readdirSync(dirname(one))).toHaveLength(1);
});
