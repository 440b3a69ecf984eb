import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { experiment as lgl } from '../experiments/lgl';
import { perClassAccuracy } from '../lib/charts/classes';
import { toSvg } from '../lib/charts/svg';
import { experimentSection } from '../lib/report/experimentSections';
import { writeReport } from '../lib/report/runReport';
import { runSections } from '../lib/report/runSections';
import { comparison, listTable } from '../lib/report/runTables';
import { makeBundle } from '../lib/runs/bundle';
import { readBundle } from '../lib/runs/bundleFile';
import { consoleReporter } from '../lib/runs/console';
import { listRuns, openRun, type RunRecord, reportFiles } from '../lib/runs/store';
import { resumeTrial } from '../lib/runs/trial';
import { putResults, readResults } from '../lib/runs/trialResults';
import { loadWeights } from '../lib/train/checkpoint';
import type { Evaluation } from '../lib/train/metrics';
import { buildModel, type RecipeOptions, resolveRecipe } from '../lib/train/recipe';
import { UserError } from '../lib/util/errors';
import { UNPRINTABLE } from '../lib/util/text';

/** What the lab 0.1.0 wrote: a run that was done, one that was interrupted, rows of an experiment, a bundle without its sources. */
const OLD = join(__dirname, 'fixtures/0.1.0');
const reporter = consoleReporter({ write: () => true });
const runs = mkdtempSync(join(tmpdir(), 'formats-'));
afterAll(() => rmSync(runs, { recursive: true }));

const messageOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'nothing was thrown',
    (error: unknown) => (error instanceof UserError ? error.message : String(error)),
  );

describe('files of 0.1.0', () => {
  test('are listed, compared and shown', async () => {
    const all = listRuns(OLD);
    expect(all.map(run => [run.record.name, run.record.version, run.status])).toEqual([
      ['interrupted', 1, 'interrupted'],
      ['done-0', 1, 'done'],
    ]);
    expect(listTable(all)).toContain('1/3');
    expect(comparison(all)).toContain('epochs');
    const [together, each] = await runSections([openRun(OLD, 'done-0')]);
    expect(together.text).toEqual([]);
    expect(Object.keys(each.charts)).toHaveLength(2);
  });

  test('give their weights to begin with', () => {
    const { record, lastCheckpoint } = openRun(OLD, 'done-0');
    const { params } = loadWeights(lastCheckpoint, buildModel(resolveRecipe(record.recipe as RecipeOptions), 3));
    expect(Object.keys(params).length).toBeGreaterThan(0);
  });

  test('give rows that are marked, and stay beside new ones', () => {
    const rows = readResults(join(OLD, 'lgl-petals.json'));
    expect(rows.map(({ numerics, origin }) => [numerics, origin])).toEqual([
      [0, null],
      [0, null],
    ]);
    const section = experimentSection(lgl.reported!, 'petals', rows);
    expect(section.text.join()).toContain('numerics 0, commit unknown');
    expect(JSON.stringify(section.charts)).not.toContain('"filled":true');
    expect(section.rerun).toEqual({});
    const path = join(runs, 'rows.json');
    cpSync(join(OLD, 'lgl-petals.json'), path);
    putResults(path, []);
    expect(readResults(path)).toEqual(rows);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ version: 2 });
  });

  test('are not resumed, bundled or replayed, in a sentence that names both versions', async () => {
    cpSync(join(OLD, 'interrupted'), join(runs, 'interrupted'), { recursive: true });
    const before = readFileSync(join(runs, 'interrupted/run.json'));
    const sentences = [
      await messageOf(resumeTrial(openRun(runs, 'interrupted'), { reporter, writeReport, force: true })),
      await messageOf(makeBundle(openRun(OLD, 'done-0'), writeReport)),
      await messageOf(readBundle(join(OLD, 'done-0.zip'))),
    ];
    for (const sentence of sentences) expect(sentence).toMatch(/format 1 by EdgeViT Lab 0\.1\.0, .* format 2/);
    expect(readFileSync(join(runs, 'interrupted/run.json'))).toEqual(before);
  });
});

test('a file of a later lab is named as such', () => {
  const path = join(runs, 'later.json');
  writeFileSync(path, JSON.stringify({ format: 'edgevit-lab results', version: 9, rows: [] }));
  expect(() => readResults(path)).toThrow(/format is 9, this lab reads up to 2/);
  cpSync(join(OLD, 'done-0'), join(runs, 'later'), { recursive: true });
  const record = JSON.parse(readFileSync(join(runs, 'later/run.json'), 'utf8')) as object;
  writeFileSync(join(runs, 'later/run.json'), JSON.stringify({ ...record, version: 9 }));
  expect(() => openRun(runs, 'later')).toThrow(/format is 9, and this lab reads up to 2/);
});

test('a broken run is named, and blocks no other', async () => {
  const folder = mkdtempSync(join(runs, 'broken-'));
  for (const name of ['good', 'empty', 'nothing', 'metrics', 'hostile'])
    cpSync(join(OLD, 'done-0'), join(folder, name), { recursive: true });
  const record = readFileSync(join(OLD, 'done-0/run.json'), 'utf8');
  writeFileSync(join(folder, 'empty/run.json'), '');
  writeFileSync(join(folder, 'nothing/run.json'), '{}');
  writeFileSync(join(folder, 'hostile/run.json'), record.replace('"done-0"', '"../../escaped"'));
  writeFileSync(join(folder, 'metrics/metrics.jsonl'), '{"kind":"step"\n{}\n');
  const named: string[] = [];
  const listed = listRuns(folder, why => named.push(why));
  expect(listed).toHaveLength(2);
  expect(named).toHaveLength(3);
  for (const name of ['empty', 'nothing', 'hostile']) expect(named.join()).toContain(join(folder, name));
  expect(listTable(listed).split('\n')).toHaveLength(4);
  const [together, ...each] = await runSections(listed);
  expect(together.text.join()).toContain('metrics.jsonl');
  expect(each).toHaveLength(1);
});

test('control characters of a file reach no terminal, page or drawing', async () => {
  const folder = mkdtempSync(join(runs, 'control-'));
  cpSync(join(OLD, 'done-0'), join(folder, 'run'), { recursive: true });
  const evil = 'a\u001b[2J\u0007\u202eb\u0001';
  const path = join(folder, 'run/run.json');
  const record = JSON.parse(readFileSync(path, 'utf8')) as RunRecord;
  record.recipe.model = evil;
  record.error = evil;
  record.dataset.description = evil;
  writeFileSync(path, JSON.stringify(record));
  const evaluation = JSON.parse(readFileSync(join(folder, 'run/evaluation.json'), 'utf8')) as Evaluation;
  evaluation.perClass[0].name = evil;
  writeFileSync(join(folder, 'run/evaluation.json'), JSON.stringify(evaluation));
  const run = openRun(folder, 'run');
  await writeReport(run);
  const texts = [
    listTable([run]),
    comparison([run]),
    ...Object.values(reportFiles(run)).map(file => readFileSync(file, 'utf8')),
  ];
  for (const text of texts) expect(text.replaceAll('\n', '')).not.toMatch(UNPRINTABLE);
  expect((await toSvg(perClassAccuracy(evaluation, evil))).replaceAll('\n', '')).not.toMatch(UNPRINTABLE);
});
