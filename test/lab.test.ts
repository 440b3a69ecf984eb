import { appendFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rerunCommand } from '../lib/report/commands';
import { writeReport } from '../lib/report/runReport';
import { runSections } from '../lib/report/runSections';
import { comparison } from '../lib/report/runTables';
import { makeBundle } from '../lib/runs/bundle';
import { codeDigest, codeFiles } from '../lib/runs/code';
import { consoleReporter, duration } from '../lib/runs/console';
import { environment } from '../lib/runs/environment';
import { listRuns, openRun, Run, type RunRecord, reportFiles } from '../lib/runs/store';
import { type NewTrial, resumeTrial, startTrial } from '../lib/runs/trial';
import { planTraining } from '../lib/train/plan';
import type { Recipe } from '../lib/train/recipe';
import { Failure, UserError } from '../lib/util/errors';
import { thisProcess } from '../lib/util/owner';
import { textTable } from '../lib/util/tables';
import { counted } from '../lib/util/text';
import { dataset, sha256, tinyRecipe } from './training';

const runs = mkdtempSync(join(tmpdir(), 'runs-'));
afterAll(() => rmSync(runs, { recursive: true }));

const silent = { write: () => true };
/** Pages take longer than these trainings. */
const noPage = async (): Promise<void> => {};
const trial = (recipe: Recipe, options: Partial<NewTrial> = {}): Promise<Run> =>
  startTrial({
    plan: planTraining(recipe, dataset),
    recipeName: 'petals',
    about: 'a test',
    runs,
    reporter: consoleReporter(silent),
    writeReport: noPage,
    ...options,
  });

/** An interruption after so many steps. */
function stopAfter(steps: number): Partial<NewTrial> {
  const controller = new AbortController();
  const reporter = consoleReporter(silent);
  return {
    interruption: () => controller.signal,
    reporter: { ...reporter, step: event => void (event.step === steps && controller.abort()) },
  };
}

const files = (run: Run) => ({
  weights: sha256(run.bestCheckpoint),
  state: sha256(run.lastCheckpoint),
  metrics: run.metrics().map(row => ({ ...row, imagesPerSecond: null })),
  evaluation: run.evaluation(),
});

describe('a run', () => {
  let whole: Run;
  beforeAll(async () => {
    whole = await trial(tinyRecipe(), { name: 'whole', writeReport });
  }, 300_000);

  test('leaves a folder that says all', () => {
    const { record } = openRun(runs, 'whole');
    expect(record).toMatchObject({
      status: 'done',
      recipe: tinyRecipe(),
      error: null,
      init: null,
      result: { weights: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    expect(record.model.params).toBeGreaterThan(0);
    expect(record.environment.engine).toMatch(/TensorFlow|JavaScript/);
    expect(
      whole
        .metrics()
        .filter(row => row.kind === 'step')
        .map(row => row.step),
    ).toEqual([...Array(12).keys()].map(i => i + 1));
    expect(whole.epochs().map(row => row.epoch)).toEqual([1, 2]);
    expect(record.result!.top1).toBe(whole.epochs().at(-1)!.evalTop1);
    expect(record.environment).toMatchObject({ threads: expect.any(Number), code: codeDigest() });
    const kept = ['checkpoint-last.safetensors', 'checkpoint-best.safetensors'];
    expect(record.files).toEqual(
      Object.fromEntries(
        [...kept, 'metrics.jsonl', 'evaluation.json', 'predictions.json'].map(name => [
          name,
          sha256(join(whole.folder, name)),
        ]),
      ),
    );
    const { labels, top, probabilities } = whole.predictions()!;
    expect(labels).toHaveLength(15);
    expect(labels.filter((label, i) => top[i][0] === label).length / 15).toBe(record.result!.top1);
    for (const row of probabilities) expect(row.reduce<number>((sum, value) => sum + value!, 0)).toBeCloseTo(1, 3);
  });

  test('interrupted and resumed leaves the same files', async () => {
    const interrupted = await trial(tinyRecipe(), { name: 'interrupted', ...stopAfter(8) });
    expect(interrupted.record.status).toBe('interrupted');
    appendFileSync(join(interrupted.folder, 'metrics.jsonl'), '{"kind":"step","step":9,"epoch":2,"learni'); // as a crash leaves it
    const resumed = await resumeTrial(openRun(runs, 'interrupted'), {
      reporter: consoleReporter(silent),
      writeReport: noPage,
    });
    expect(resumed.record).toMatchObject({
      status: 'done',
      resumedAt: [8],
      result: { weights: whole.record.result!.weights },
    });
    expect(files(resumed)).toEqual(files(whole));
  });

  test('killed after its last checkpoint resumes there', async () => {
    const killed = await trial(tinyRecipe(), { name: 'killed', ...stopAfter(8) });
    // What a SIGKILL two steps later would leave: rows without a checkpoint, and the status of a run under way.
    for (const step of [9, 10]) killed.append({ kind: 'step', step, epoch: 2, learningRate: 1, loss: 1 });
    killed.update({ status: 'running', owner: { ...thisProcess(), since: 'before' } });
    expect(openRun(runs, 'killed').status).toBe('interrupted');
    expect(
      files(await resumeTrial(openRun(runs, 'killed'), { reporter: consoleReporter(silent), writeReport: noPage })),
    ).toEqual(files(whole));
  });

  test('killed before its first checkpoint begins again', async () => {
    const killed = await trial(tinyRecipe(), { name: 'early', ...stopAfter(2) });
    rmSync(killed.lastCheckpoint);
    expect(files(await resumeTrial(killed, { reporter: consoleReporter(silent), writeReport: noPage }))).toEqual(
      files(whole),
    );
  });

  test('is not resumed when it is done, when it runs, or when its data changed', async () => {
    cpSync(whole.folder, join(runs, 'refused'), { recursive: true });
    const resume = (changes: Partial<RunRecord>) => {
      const run = openRun(runs, 'refused');
      run.update({ ...whole.record, ...changes });
      return resumeTrial(run, { reporter: consoleReporter(silent), writeReport: noPage });
    };
    await expect(resume({})).rejects.toThrow(UserError);
    await expect(resume({ status: 'running', owner: thisProcess() })).rejects.toThrow(UserError);
    await expect(
      resume({ status: 'interrupted', dataset: { ...whole.record.dataset, fingerprint: '0'.repeat(64) } }),
    ).rejects.toThrow(UserError);
    await expect(
      resume({
        status: 'interrupted',
        recipe: tinyRecipe({ modelSettings: { ...tinyRecipe().modelSettings, delegate: 'mean' } }),
      }),
    ).rejects.toThrow(UserError);
  });

  test('is resumed in another environment by force alone, and says where', async () => {
    const run = await trial(tinyRecipe(), { name: 'forced', ...stopAfter(8) });
    const elsewhere = { ...environment(), variables: 'TF_ENABLE_ONEDNN_OPTS=0' };
    run.update({ environment: elsewhere });
    const before = readFileSync(join(run.folder, 'run.json'));
    const resume = (options: object = {}) =>
      resumeTrial(openRun(runs, 'forced'), { reporter: consoleReporter(silent), writeReport, ...options });
    await expect(resume()).rejects.toThrow(/environment variables TF_ENABLE_ONEDNN_OPTS=0 there.*--force/s);
    expect(readFileSync(join(run.folder, 'run.json'))).toEqual(before);
    const { record } = await resume({ force: true });
    expect(record).toMatchObject({ status: 'done', environment: elsewhere, segments: [{ step: 8 }] });
    expect(record.segments[0].environment).toEqual(environment());
    const forced = openRun(runs, 'forced');
    await expect(makeBundle(forced, writeReport)).rejects.toThrow(/by force/);
    const [{ text, rerun }] = await runSections([forced]);
    expect(text.join()).toMatch(/forced: After step 8 .*TF_ENABLE_ONEDNN_OPTS=0 there/);
    expect(rerun).toEqual({});
    expect(readFileSync(reportFiles(forced).page, 'utf8')).toContain('ends at other bytes');
    const other = new Run(forced.folder, { ...record, segments: [] });
    expect(comparison([other, forced])).toMatch(
      /variables +TF_ENABLE_ONEDNN_OPTS=0 +TF_ENABLE_ONEDNN_OPTS=0; after step 8/,
    );
  });

  test('whose loss on the test images is not finite fails, and leaves a run that can be read', async () => {
    const recipe = tinyRecipe({ lr: 1e30, maxLoss: 1e30, clip: 0, ema: 0, batch: 24, epochs: 1, warmupEpochs: 0 });
    await expect(trial(recipe, { name: 'infinite' })).rejects.toThrow(Failure);
    expect(openRun(runs, 'infinite').record).toMatchObject({ status: 'failed', result: null });
    expect(openRun(runs, 'infinite').record.error).toMatch(/diverged/);
  });

  test('that diverges fails with its step, its learning rate and its last good checkpoint', async () => {
    const run = await trial(tinyRecipe(), { name: 'diverged', ...stopAfter(7) });
    const good = sha256(run.lastCheckpoint);
    run.update({ recipe: { ...run.record.recipe, lr: 1e12, clip: 0 } });
    const error = await resumeTrial(run, { reporter: consoleReporter(silent), writeReport: noPage }).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(Failure);
    const { message } = error as Failure;
    expect(openRun(runs, 'diverged').record).toMatchObject({ status: 'failed', error: message });
    expect(message).toMatch(/step 9.*learning rate .*checkpoint-last\.safetensors, after step 7/s);
    expect(sha256(run.lastCheckpoint)).toBe(good);
  });

  test('begins with the weights of another', async () => {
    const run = await trial(tinyRecipe({ epochs: 1, lr: 1e-12, minLr: 0, ema: 0, weightDecay: 0 }), {
      name: 'init',
      init: whole.bestCheckpoint,
    });
    expect(run.record.init).toEqual({ path: whole.bestCheckpoint, sha256: sha256(whole.bestCheckpoint) });
    expect(run.epochs()[0].evalTop1).toBeGreaterThan(0);
  });

  test('has a name of its own', async () => {
    await expect(trial(tinyRecipe(), { name: 'whole' })).rejects.toThrow(UserError);
    await expect(trial(tinyRecipe(), { name: '../whole' })).rejects.toThrow(UserError);
    const names = [await trial(tinyRecipe(), stopAfter(1)), await trial(tinyRecipe(), stopAfter(1))].map(
      run => run.record.name,
    );
    expect(new Set(names).size).toBe(2);
    expect(listRuns(runs).map(run => run.record.name)).toEqual(expect.arrayContaining(names));
    expect(() => openRun(runs, 'none')).toThrow(UserError);
  });

  test('has a page that needs nothing else', () => {
    const { curve, page } = reportFiles(whole);
    const html = readFileSync(page, 'utf8');
    expect(existsSync(curve)).toBe(true);
    expect(html.match(/<svg/g)).toHaveLength(3);
    expect(html).not.toMatch(/<script|<link|<img|@import|url\(\s*['"]?(?!#)|(src|href)="(?!#)/);
    expect(html).toContain(whole.record.result!.weights);
  });

  test('has a page that tells on which images its best epoch was the best', async () => {
    const folder = join(runs, 'with-validation');
    cpSync(whole.folder, folder, { recursive: true });
    const run = new Run(folder, { ...whole.record, dataset: { ...whole.record.dataset, val: 7 } });
    await writeReport(run);
    expect(readFileSync(reportFiles(run).page, 'utf8')).toMatch(/best epoch, \d, had [\d.]+ % on 7 validation images/);
    rmSync(folder, { recursive: true });
  });

  test('is told how to be run again', () => {
    const there = join(whole.folder, "it's here");
    mkdirSync(there);
    const record: RunRecord = { ...whole.record, recipe: tinyRecipe({ data: `folder:${there}`, seed: 3 }) };
    expect(rerunCommand(record)).toContain(`it'\\''s here'`);
    rmSync(there, { recursive: true });
    expect(rerunCommand(record)).toContain('--set data=folder:PATH'); // for the reader to name
    expect(rerunCommand(record)).toContain('--set seed=3');
  });
});

test('the code of a trial is all that training imports, and nothing of the lab around it', () => {
  const files = codeFiles();
  expect(files).toEqual([...files].sort());
  expect(files).toEqual(
    expect.arrayContaining([
      'lib/model/blocks.ts',
      'lib/data/worker.ts',
      'lib/data/transforms/resize.ts',
      'lib/engine/native/norms.cc',
      'lib/train/step.ts',
    ]),
  );
  expect(files.filter(path => path.startsWith('lib/runs/') || path.startsWith('lib/measure/'))).toEqual([]);
});

describe('the console', () => {
  const totals = { batch: 2, stepsPerEpoch: 2, totalSteps: 4, epochs: 2 };
  const step = { kind: 'step', step: 1, epoch: 1, learningRate: 0.1, loss: 1 } as const;

  test('writes no control characters into a pipe', () => {
    const written: string[] = [];
    const reporter = consoleReporter({ write: text => written.push(text) });
    reporter.say('hello');
    reporter.step(step, totals);
    reporter.end();
    expect(written.join('')).toBe('hello\n');
  });

  test('keeps its bar within the line of a terminal', async () => {
    const written: string[] = [];
    const reporter = consoleReporter({ isTTY: true, columns: 40, write: text => written.push(text) });
    await new Promise(resolve => setTimeout(resolve, 150)); // longer than a frame
    reporter.step(step, totals);
    expect(written).toHaveLength(1);
    expect(written[0].replace('\r\x1b[K', '').length).toBeLessThan(40);
  });

  test('tells times and tables', () => {
    expect([null, 0, 59.6, 250, 1380, 3725].map(duration)).toEqual(['?', '0s', '1m00s', '4m10s', '23m', '1h02m']);
    expect([counted(1, 'file'), counted(0, 'file'), counted(1024, 'file'), counted(2, 'class', 'classes')]).toEqual([
      '1 file',
      '0 files',
      '1,024 files',
      '2 classes',
    ]);
    expect(
      textTable({ name: 'name', n: 'n' }, [
        { name: 'a', n: '1' },
        { name: 'bcdef', n: '10' },
      ]),
    ).toBe('name    n\n─────  ──\na       1\nbcdef  10');
  });
});
