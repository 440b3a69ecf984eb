import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { startTrialProcess } from '../../lib/cli/support/trialProcess';
import { openDataset } from '../../lib/data/open';
import type { Backend } from '../../lib/runs/backends/backend';
import { localBackend } from '../../lib/runs/backends/local';
import { planSweep, resolveSweep, runSweep, type SweepPlan } from '../../lib/runs/sweep';
import { findTrial } from '../../lib/runs/trialFile';
import { plain } from '../imageFolders';
import { sha256, tinyRecipe } from '../training';

/** How often something is killed on each backend: three times here, and by `CRASHES=20 npm run test:cluster` for who has ten minutes. */
export const CRASHES = Number(process.env.CRASHES ?? 3);

/** A folder for what these tests write. */
export const folder = (name: string): string => {
  const path = join(process.env.CLUSTER_PLACE!, name);
  mkdirSync(path, { recursive: true });
  return path;
};

/** Three classes, an image of one colour each time. The fingerprint is of all such folders. */
export async function writeImages(path: string): Promise<string> {
  for (const [split, count] of [
    ['train', 4],
    ['test', 2],
  ] as const)
    for (const [c, name] of ['aster', 'daisy', 'lily'].entries()) {
      mkdirSync(join(path, split, name), { recursive: true });
      for (let i = 0; i < count; i++)
        await plain([80 * c, 40 * i, count])
          .png()
          .toFile(join(path, split, name, `${i}.png`));
    }
  return path;
}

/** Two trials of a folder of images into a folder of runs. */
export async function plan(
  runs: string,
  images: string,
  variants: readonly string[] = ['full', 'nearest'],
  epochs = 4,
): Promise<SweepPlan> {
  const all = { full: {}, nearest: { ablation: 'localPropNearest' } };
  const sweep = resolveSweep(
    {
      base: tinyRecipe({ data: `folder:${images}`, epochs }),
      variants: Object.fromEntries(Object.entries(all).filter(([name]) => variants.includes(name))),
      seeds: [0],
      varied: ['ablation'],
    },
    { cacheDir: folder('cache') },
  );
  return planSweep(sweep, await openDataset(sweep.base.data, sweep.dataOptions), { runs, threads: 1 });
}

export async function train(sweep: SweepPlan, backend: Backend, signal = new AbortController().signal): Promise<void> {
  await runSweep(sweep, { backend, signal, onChange() {} });
}

/** A sweep of some images as `--jobs=1` trains it, and how long one of its trials takes. Where both test files ask for it one trains and the other waits. */
export async function trainHere(images: string): Promise<{ sweep: SweepPlan; trialMs: number }> {
  const runs = folder('here');
  const sweep = await plan(runs, images);
  await train(sweep, localBackend({ jobs: 1, launch: (file, log) => startTrialProcess(file, runs, log) }));
  const times = sweep.trials.map(({ name }) => {
    const { started, ended } = findTrial(runs, name)!.record;
    return Date.parse(ended!) - Date.parse(started);
  });
  return { sweep, trialMs: Math.max(...times) };
}

/** Everything of a sweep's trials that does not depend on how fast machines are. */
export const outcomes = ({ runs, trials }: SweepPlan) =>
  trials.map(({ name, state, error, row }) => {
    const run = findTrial(runs, name);
    const text = (file: string): string | undefined =>
      run && existsSync(join(run.folder, file)) ? readFileSync(join(run.folder, file), 'utf8') : undefined;
    return {
      name,
      state,
      error,
      row: row && { ...row, imagesPerSecond: null },
      metrics: run?.metrics().map(each => ({ ...each, imagesPerSecond: null })),
      weights: run && sha256(run.lastCheckpoint),
      evaluation: text('evaluation.json'),
      predictions: text('predictions.json'),
      altered: run?.alteredFiles(),
      // What was printed while it trained stays where it trained.
      files:
        run &&
        readdirSync(run.folder)
          .sort()
          .filter(file => file !== 'log.txt'),
    };
  });

/** No row twice, none lost, and the bytes of `--jobs=1`. */
export function expectSame(sweep: SweepPlan, reference: SweepPlan): void {
  const expected = outcomes(reference).filter(({ name }) => sweep.trials.some(trial => trial.name === name));
  expect(outcomes(sweep)).toEqual(expected);
  for (const { metrics } of expected) {
    const steps = metrics!.flatMap(row => (row.kind === 'step' ? [row.step] : []));
    expect(steps).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
  }
}

/** Everything that a folder's files say. */
export function allText(path: string): string {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'latin1'))
    .join('\n');
}
