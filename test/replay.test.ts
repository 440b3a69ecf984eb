import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { writeReport } from '../lib/report/runReport';
import { makeBundle } from '../lib/runs/bundle';
import { type Bundle, readBundle } from '../lib/runs/bundleFile';
import { consoleReporter } from '../lib/runs/console';
import { circumstances, type Outcome, outcomeDifferences } from '../lib/runs/differences';
import { replay } from '../lib/runs/replay';
import { openRun } from '../lib/runs/store';
import { type NewTrial, startTrial } from '../lib/runs/trial';
import { openPlan } from '../lib/train/plan';
import { UserError } from '../lib/util/errors';
import { ROOT } from '../lib/util/root';
import { folderOfPictures } from './pictures';
import { DATA, tinyPlan, tinyRecipe } from './training';

const folder = mkdtempSync(join(tmpdir(), 'replays-'));
afterAll(() => rmSync(folder, { recursive: true }));

const reporter = consoleReporter({ write: () => true });
const data = { cacheDir: join(folder, 'cache') };

/** Trains, bundles and reads the bundle, as whoever receives it would. */
async function bundled(options: Partial<NewTrial> & { name: string }): Promise<Bundle> {
  const run = await startTrial({
    plan: tinyPlan(),
    recipeName: 'petals',
    about: 'a test',
    runs: join(folder, 'here'),
    reporter,
    writeReport,
    ...options,
  });
  const file = join(folder, `${options.name}.zip`);
  writeFileSync(file, await makeBundle(run, writeReport));
  return readBundle(file);
}

const again = (bundle: Bundle, dataset?: string) =>
  replay(bundle, { reporter, writeReport, runs: join(folder, 'there'), dataset, data });

let petals: Bundle;
beforeAll(async () => {
  petals = await bundled({ name: 'petals' });
}, 300_000);

describe('a replay', () => {
  test('is identical to the byte, in a run folder of its own', async () => {
    const { run, outcome, environment, otherPages } = await again(petals);
    expect({ outcome, environment, otherPages }).toEqual({ outcome: [], environment: [], otherPages: [] });
    expect(run.record).toMatchObject({
      name: 'petals-replay',
      recipe: tinyRecipe(),
      result: { weights: petals.run.result.weights },
    });
  });

  test('is identical too where a sweep kept of its trial the weights alone', async () => {
    const bundle = await bundled({ name: 'trial', plan: tinyPlan({ epochs: 1 }), trial: '0'.repeat(64) });
    expect(await again(bundle)).toMatchObject({ outcome: [], environment: [], run: { record: { trial: null } } });
  });

  test('finds images that lie elsewhere, begins with the same weights, and knows other images', async () => {
    const meadow = await folderOfPictures(join(folder, 'meadow'));
    const init = openRun(join(folder, 'here'), 'petals').bestCheckpoint;
    const bundle = await bundled({
      name: 'meadow',
      plan: await openPlan(tinyRecipe({ data: `folder:${meadow}`, epochs: 1 }), data),
      init,
      data,
    });
    await expect(again(bundle)).rejects.toThrow('--data=folder:PATH');
    expect(await again(bundle, `folder:${meadow}`)).toMatchObject({ outcome: [], environment: [] });

    const { outcome, environment } = await again(bundle, DATA); // three classes as well
    expect(outcome).not.toEqual([]);
    expect(environment.map(({ what }) => what)).toEqual(['images']);
    await expect(again(bundle, 'petals:classes=4,train=4,test=1,size=32')).rejects.toThrow(UserError);
    const tellsWhereabouts = {
      ...bundle,
      run: { ...bundle.run, recipe: { ...bundle.run.recipe, data: `folder:${meadow}` } },
    };
    await expect(again(tellsWhereabouts)).rejects.toThrow('--data=folder:PATH'); // a bundle has no say in what is read of this machine
  });

  test('names each image that cannot be read once, with one reason', async () => {
    const meadow = await folderOfPictures(join(folder, 'damaged'));
    writeFileSync(join(meadow, 'train/red/broken.png'), 'no image');
    writeFileSync(join(meadow, 'test/blue/cut.png'), readFileSync(join(meadow, 'test/blue/0.png')).subarray(0, 60));
    const recipe = tinyRecipe({ data: `folder:${meadow}`, epochs: 1 });
    const bundle = await bundled({ name: 'damaged', plan: await openPlan(recipe, data), data });
    const said: string[] = [];
    const spies = (['log', 'error'] as const).map(method =>
      vi.spyOn(console, method).mockImplementation(line => void said.push(String(line))),
    );
    const reporter = consoleReporter({ write: text => said.push(text) > 0 });
    await replay(bundle, { reporter, writeReport, runs: join(folder, 'there'), dataset: `folder:${meadow}`, data });
    for (const spy of spies) spy.mockRestore();
    const lines = said.flatMap(text => text.split('\n'));
    for (const name of ['broken.png', 'cut.png']) expect(lines.filter(line => line.includes(name))).toHaveLength(1);
    expect(lines.filter(line => /\b2 images\b/.test(line))).toHaveLength(1);
  });

  test('of another recipe differs first where that has an effect', async () => {
    const { run } = petals;
    const { outcome } = await again({ ...petals, run: { ...run, recipe: { ...run.recipe, lr: 1e-3 } } });
    expect(outcome!.map(({ what }) => what)).toEqual(['losses', 'evaluation', 'predictions', 'weights', 'result']);
    expect(outcome![0].how).toMatch(
      /^first at step 1: learningRate is .* there, .* here, .* apart; \d+ of 14 rows differ$/,
    );
  });

  test('names the pages that say other than the files of the run', async () => {
    const page = petals.pages.get('report.html')!.toString();
    const bundle = await bundled({ name: 'boast', plan: tinyPlan({ epochs: 1 }) });
    const pages = new Map(bundle.pages).set('report.html', Buffer.from(page));
    expect((await again({ ...bundle, pages })).otherPages).toEqual(['report.html']);
  });

  test('of a recipe that is none is refused', async () => {
    const { run } = petals;
    for (const recipe of [
      {},
      { ...run.recipe, model: 'edgevit-m' },
      { ...run.recipe, more: 1 },
      { ...run.recipe, modelSettings: { dims: [1e9, 1e9, 1e9, 1e9] } },
    ])
      await expect(again({ ...petals, run: { ...run, recipe: recipe as typeof run.recipe } })).rejects.toThrow(
        UserError,
      );
  });
});

describe('the comparison', () => {
  const outcome = (): Outcome => ({
    ...structuredClone({ metrics: petals.metrics, evaluation: petals.evaluation, predictions: petals.predictions }),
    weights: petals.weights,
    result: { ...petals.run.result },
    ...structuredClone({ model: petals.run.model, dataset: petals.run.dataset }),
  });
  const edited = (edit: (outcome: Outcome) => void) => {
    const here = outcome();
    edit(here);
    return outcomeDifferences(outcome(), here);
  };

  test('does not mind how fast the machine was', () => {
    expect(edited(({ metrics }) => metrics.forEach(row => row.kind === 'epoch' && (row.imagesPerSecond = 1)))).toEqual(
      [],
    );
  });

  test('names the first step, the values and how far they are apart', () => {
    const [difference, ...more] = edited(({ metrics }) =>
      [4, 8].forEach(i => (metrics[i] = { kind: 'step', step: 5, epoch: 1, learningRate: 1, loss: 1 })),
    );
    expect(more).toEqual([]);
    expect(difference.what).toBe('losses');
    expect(difference.how).toMatch(/^first at step 5: .*; 2 of 14 rows differ$/);
    expect(edited(({ metrics }) => metrics.pop())).toEqual([{ what: 'losses', how: '14 rows there, 13 here' }]);
  });

  test('finds what run.json says of the network and of the images', () => {
    expect(edited(({ model }) => (model.macs /= 10))).toEqual([
      { what: 'model', how: expect.stringContaining('macs') as string },
    ]);
    expect(edited(({ model }) => Object.assign(model.config, { delegate: 'max' }))).toEqual([
      { what: 'model', how: expect.stringContaining('config.delegate') as string },
    ]);
    expect(edited(({ dataset }) => (dataset.skipped += 1))).toEqual([
      { what: 'dataset', how: expect.stringContaining('skipped') as string },
    ]);
  });

  test('finds one digit in the evaluation and in a prediction', () => {
    expect(edited(({ evaluation }) => evaluation.confusion[2][1]++)).toEqual([
      { what: 'evaluation', how: expect.stringContaining('confusion.2.1') as string },
    ]);
    expect(edited(({ predictions }) => (predictions.probabilities[6][1]! += 1e-4))).toEqual([
      {
        what: 'predictions',
        how: expect.stringMatching(
          /^of 1 of 15 images, first of number 7: probabilities\.1 .*1\.0e-4 apart$/,
        ) as string,
      },
    ]);
    expect(edited(({ predictions }) => predictions.labels.pop())).toHaveLength(1);
  });

  test('says how far apart weights are, and in which tensor most', () => {
    const changed = Buffer.from(petals.weights);
    changed.writeFloatLE(changed.readFloatLE(changed.length - 4) + 0.25, changed.length - 4);
    const [{ what, how }] = edited(here =>
      Object.assign(here, { weights: changed, result: { ...here.result, weights: '0'.repeat(64) } }),
    );
    expect(what).toBe('weights');
    expect(how).toMatch(
      /^sha256 [0-9a-f]{12} there, 0{12} here; 1 of \d+ tensors; the largest difference is 2\.5e-1, in \S+$/,
    );
    expect(edited(({ result }) => (result.weights = '0'.repeat(64)))).toHaveLength(1);
  });

  test('names what of the environment differs, and which sources', () => {
    const {
      environment,
      dataset: { fingerprint },
    } = petals.run;
    const sources = new Map(petals.sources);
    expect(circumstances(petals, { environment, fingerprint, sources })).toEqual([]);
    sources
      .set('lib/util/errors.ts', Buffer.from('other'))
      .set('lib/new.ts', Buffer.from('new'))
      .delete('package-lock.json');
    const here = {
      ...environment,
      threads: 64,
      engine: 'pure JavaScript',
      cpu: 'another',
      code: '0'.repeat(64),
      git: null,
    };
    const differences = circumstances(petals, { environment: here, fingerprint: '0'.repeat(64), sources });
    expect(differences.map(({ what, decides }) => [what, decides])).toEqual([
      ['engine', true],
      ['images', true],
      ['code', false],
      ['threads', false],
      ['processor', false],
      ['commit', false],
    ]);
    expect(differences[2]!.how).toBe(
      'changed: lib/util/errors.ts; only there: package-lock.json; only here: lib/new.ts',
    );
  });
});

test('the commands: one thread there and two here are identical, and the exit status tells how it went', () => {
  const runs = join(folder, 'commands');
  const command = (args: string[], env: NodeJS.ProcessEnv = {}) =>
    spawnSync(process.execPath, ['--import', 'tsx', 'lib/cli/main.ts', ...args, `--runs=${runs}`], {
      cwd: ROOT,
      encoding: 'utf8',
      env: { ...process.env, ...env },
    });
  const small = [
    '--size=32',
    '--batch=4',
    '--epochs=1',
    ...['depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2'].flatMap(setting => ['--set', setting]),
  ];
  expect(command(['train', `--data=${DATA}`, ...small, '--name=one'], { TF_NUM_INTRAOP_THREADS: '1' }).status).toBe(0);
  const file = join(runs, 'one.zip');
  expect(command(['bundle', 'one'])).toMatchObject({ status: 0, stdout: expect.stringContaining('one.zip') as string });

  const identical = command(['replay', file, '--threads=2']);
  expect(identical).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('identical to the byte: 6 steps') as string,
  });
  expect(openRun(runs, 'one').record.environment.threads).toBe(1);
  expect(openRun(runs, 'one-replay').record.environment.threads).toBe(2);
  expect(identical.stdout).toContain('the same in all that can decide bytes');

  const different = command(['replay', file, '--data=petals:classes=3,train=8,test=5,size=32,seed=1']);
  expect(different.status).toBe(1);
  expect(different.stdout).toMatch(/^different\n {2}losses +first at step 1: loss is .* there, .* here, .* apart/m);
  expect(different.stdout).toMatch(/^ {2}images +fingerprint/m);

  writeFileSync(file, readFileSync(file).subarray(0, 1000));
  const refused = command(['replay', file]);
  expect(refused).toMatchObject({ status: 2, stdout: '' });
  expect(refused.stderr).not.toMatch(/^\s+at /m);
}, 300_000);
