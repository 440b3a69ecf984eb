import { createHash } from 'node:crypto';
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import JSZip from 'jszip';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeReport } from '../lib/report/runReport';
import { packArchive, readArchive } from '../lib/runs/archive';
import { lastWeights, makeBundle } from '../lib/runs/bundle';
import { ENTRY, manifestOf, readBundle, SOURCE } from '../lib/runs/bundleFile';
import { codeFiles } from '../lib/runs/code';
import { consoleReporter } from '../lib/runs/console';
import { packExperiment, readBundles } from '../lib/runs/experimentBundle';
import { openRun, type Run, type RunRecord } from '../lib/runs/store';
import { type NewTrial, startTrial } from '../lib/runs/trial';
import { formatResults, trialRow } from '../lib/runs/trialResults';
import { loadWeights, weightsDigest } from '../lib/train/checkpoint';
import { openPlan } from '../lib/train/plan';
import { buildModel } from '../lib/train/recipe';
import { UserError } from '../lib/util/errors';
import { random } from '../lib/util/random';
import { ROOT } from '../lib/util/root';
import { folderOfPictures } from './pictures';
import { sha256, tinyPlan, tinyRecipe } from './training';

const runs = mkdtempSync(join(tmpdir(), 'bundles-'));
afterAll(() => rmSync(runs, { recursive: true }));

const reporter = consoleReporter({ write: () => true });
const trial = (options: Partial<NewTrial>): Promise<Run> =>
  startTrial({
    plan: tinyPlan({ ema: 0 }),
    recipeName: 'petals',
    about: 'a test',
    runs,
    reporter,
    writeReport,
    ...options,
  });

let run: Run;
let bytes: Buffer;
let entries: Map<string, Buffer>;
const file = join(runs, 'plain.zip');

beforeAll(async () => {
  run = await trial({ name: 'plain' });
  bytes = await makeBundle(run, writeReport);
  writeFileSync(file, bytes);
  entries = new Map(await readArchive(file));
}, 300_000);

const json = <T>(name: string): T => JSON.parse(entries.get(name)!.toString()) as T;

describe('a bundle', () => {
  test('holds what is needed to run it again, and the sum of every entry', () => {
    const { files } = json<{ files: Record<string, { bytes: number; sha256: string }> }>(ENTRY.manifest);
    expect(Object.keys(files).sort()).toEqual([...entries.keys()].filter(name => name !== ENTRY.manifest).sort());
    for (const [name, { bytes, sha256 }] of Object.entries(files)) {
      expect(entries.get(name)).toHaveLength(bytes);
      expect(createHash('sha256').update(entries.get(name)!).digest('hex')).toBe(sha256);
    }
    expect(codeFiles().filter(path => !entries.has(SOURCE + path))).toEqual([]);
    for (const name of [ENTRY.metrics, ENTRY.evaluation, ENTRY.predictions])
      expect(entries.get(name)!.equals(readFileSync(join(run.folder, name)))).toBe(true);
    expect(json<RunRecord>(ENTRY.run)).toMatchObject({
      recipe: run.record.recipe,
      environment: run.record.environment,
      result: run.record.result,
      init: null,
    });
  });

  test('has the same bytes whenever and wherever it is made', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'elsewhere-'));
    cpSync(run.folder, join(elsewhere, 'plain'), { recursive: true });
    expect((await makeBundle(openRun(elsewhere, 'plain'), writeReport)).equals(bytes)).toBe(true);
    rmSync(elsewhere, { recursive: true });
  });

  test('is a run folder when it is unpacked, with weights that are those of the run', async () => {
    for (const [name, content] of entries) {
      const path = join(runs, 'unpacked', name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
    }
    const unpacked = openRun(runs, 'unpacked');
    expect(unpacked.alteredFiles()).toEqual([]);
    expect(unpacked.predictions()).toEqual(run.predictions());
    const model = buildModel(run.record.recipe, 3);
    const { params, buffers } = loadWeights(join(unpacked.folder, ENTRY.weights), model);
    expect(weightsDigest(model, params, buffers)).toBe(run.record.result!.weights);
    rmSync(unpacked.folder, { recursive: true });
  });

  test('says nothing of the machine, and brings the weights that its run began with', async () => {
    const folder = await folderOfPictures(join(runs, 'meadow'));
    const begun = await trial({
      name: 'begun',
      plan: await openPlan(tinyRecipe({ data: `folder:${folder}`, epochs: 1 }), { cacheDir: join(runs, 'cache') }),
      init: run.bestCheckpoint,
      data: { cacheDir: join(runs, 'cache') },
    });
    const path = join(runs, 'begun.zip');
    writeFileSync(path, await makeBundle(begun, writeReport));
    const packed = await readArchive(path);
    for (const [name, content] of packed) {
      for (const secret of [runs, ROOT, `"${hostname()}"`])
        expect(content.includes(secret), `${secret} in ${name}`).toBe(false);
    }
    const bundle = await readBundle(path);
    expect(bundle.run).toMatchObject({
      recipe: { data: 'folder:meadow' },
      dataOptions: {},
      dataset: { fingerprint: begun.record.dataset.fingerprint },
    });
    expect(bundle.run.dataset.description).toMatch(/meadow$/);
    expect(bundle.init!.equals(readFileSync(run.bestCheckpoint))).toBe(true);
    expect([...packed.keys()].filter(name => /\.(png|jpe?g|webp)$/.test(name))).toEqual([]);

    const init = { ...begun.record.init!, sha256: '0'.repeat(64) };
    await expect(makeBundle(withRecord(begun, { init }), writeReport)).rejects.toThrow(UserError);
    await expect(
      makeBundle(withRecord(begun, { init: { ...init, path: join(runs, 'gone') } }), writeReport),
    ).rejects.toThrow(UserError);
  });

  test('has the moving average of the weights, where it is what was judged', async () => {
    const averaged = await trial({ name: 'averaged', plan: tinyPlan({ epochs: 1 }) });
    const best = join(runs, 'of-one-epoch.safetensors'); // the only epoch is the best one
    writeFileSync(best, lastWeights(averaged));
    expect(sha256(best)).toBe(sha256(averaged.bestCheckpoint));
  });

  test('is not made of a run that is not done, was altered, or was made by other code', async () => {
    const environment = run.record.environment;
    const records: Partial<RunRecord>[] = [
      { status: 'failed' },
      { status: 'interrupted' },
      { environment: { ...environment, code: '0'.repeat(64) } },
      { environment: { ...environment, lockfile: '0'.repeat(64) } },
    ];
    for (const changes of records)
      await expect(makeBundle(withRecord(run, changes), writeReport)).rejects.toThrow(UserError);
    cpSync(run.folder, join(runs, 'altered'), { recursive: true });
    const altered = openRun(runs, 'altered');
    appendFileSync(altered.lastCheckpoint, ' ');
    await expect(makeBundle(altered, writeReport)).rejects.toThrow(UserError);
    rmSync(join(altered.folder, ENTRY.predictions));
    cpSync(run.lastCheckpoint, altered.lastCheckpoint);
    await expect(makeBundle(altered, writeReport)).rejects.toThrow(ENTRY.predictions);
  });
});

function withRecord(original: Run, changes: Partial<RunRecord>): Run {
  const copy = openRun(runs, original.record.name);
  copy.record = { ...original.record, ...changes };
  return copy;
}

/** The good bundle with entries changed, added or (undefined) left out, under a manifest that fits. */
function repack(changes: Record<string, Buffer | string | undefined>): Promise<Buffer> {
  const changed = new Map(entries);
  changed.delete(ENTRY.manifest);
  for (const [name, content] of Object.entries(changes)) {
    if (content === undefined) changed.delete(name);
    else changed.set(name, Buffer.from(content));
  }
  return packArchive(new Map([[ENTRY.manifest, manifestOf(changed)], ...changed]));
}

const editRun = (edit: (record: Record<string, any>) => void): Promise<Buffer> => {
  const record = json<Record<string, unknown>>(ENTRY.run);
  edit(record);
  return repack({ [ENTRY.run]: JSON.stringify(record) });
};

/** The good bundle with a JSON entry edited, its sums in run.json and in the manifest made to fit. */
const editEntry = (name: string, edit: (value: any) => void): Promise<Buffer> => {
  const value = json<unknown>(name);
  edit(value);
  return fitting({ [name]: JSON.stringify(value) });
};

function fitting(changes: Record<string, string>): Promise<Buffer> {
  const record = json<RunRecord>(ENTRY.run);
  for (const [name, content] of Object.entries(changes))
    record.files[name] = createHash('sha256').update(content).digest('hex');
  return repack({ [ENTRY.run]: JSON.stringify(record), ...changes });
}

const editMetrics = (edit: (rows: Record<string, any>[]) => void): Promise<Buffer> => {
  const rows = entries
    .get(ENTRY.metrics)!
    .toString()
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, any>);
  edit(rows);
  return fitting({ [ENTRY.metrics]: rows.map(row => `${JSON.stringify(row)}\n`).join('') });
};

/** Overwrites every occurrence, in headers and contents alike, with text of the same length. */
function overwrite(archive: Buffer, from: string, to: string): Buffer {
  return Buffer.from(archive.toString('latin1').replaceAll(from, to), 'latin1');
}

/** Sets the size that the last entry is declared to have, in the directory at the archive's end. */
function declareSize(archive: Buffer, size: number): Buffer {
  const changed = Buffer.from(archive);
  changed.writeUInt32LE(size, archive.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1')) + 24);
  return changed;
}

async function zipOf(name: string, content: Buffer, options: JSZip.JSZipFileOptions = {}): Promise<Buffer> {
  const zip = await JSZip.loadAsync(bytes);
  zip.file(name, content, { createFolders: false, ...options });
  return zip.generateAsync({ type: 'nodebuffer', platform: 'UNIX', compression: 'DEFLATE' });
}

const MEGABYTE = Buffer.alloc(1e6);

/** Room for the good bundle, and half of a megabyte more. */
const bounds = () => ({
  entries: 200,
  bytes: [...entries.values()].reduce((sum, { length }) => sum + length, 500_000),
});

describe('a run whose files say two things', () => {
  const copy = (name: string): Run => {
    cpSync(run.folder, join(runs, name), { recursive: true });
    const copied = openRun(runs, name);
    copied.update({ name });
    return copied;
  };

  test('is not bundled', async () => {
    const false1 = copy('false-1');
    false1.update({ result: { ...run.record.result!, top1: 0.99 } });
    await expect(makeBundle(false1, writeReport)).rejects.toThrow(/top1 of run\.json is 0\.99/);
    const false2 = copy('false-2');
    const metrics = join(false2.folder, 'metrics.jsonl');
    writeFileSync(metrics, readFileSync(metrics, 'utf8').replace(/"evalTop1":[\d.]+/g, '"evalTop1":0.99'));
    await expect(makeBundle(false2, writeReport)).rejects.toThrow(/metrics\.jsonl is not the file/); // and where its sum is made to fit:
    false2.recordFiles({ ended: true });
    await expect(makeBundle(false2, writeReport)).rejects.toThrow(UserError);
    const false3 = copy('false-3');
    false3.update({ result: { ...run.record.result!, weights: '0'.repeat(64) } });
    await expect(makeBundle(false3, writeReport)).rejects.toThrow(/other weights/);
    for (const each of [false1, false2, false3]) rmSync(each.folder, { recursive: true });
  });
});

test('many lines that are none are refused at the first, and a long one before it is read', async () => {
  const path = join(runs, 'lines.zip');
  writeFileSync(path, await fitting({ [ENTRY.metrics]: `[${'1,'.repeat(20_000_000)}1]\n` }));
  await expect(readBundle(path)).rejects.toThrow(/line 1 of metrics\.jsonl: it has more than/);
  writeFileSync(path, await fitting({ [ENTRY.metrics]: '\n'.repeat(5_000_000) }));
  await expect(readBundle(path)).rejects.toThrow(/line 1 of metrics\.jsonl/);
  writeFileSync(path, await fitting({ [ENTRY.predictions]: ' '.repeat(17 * 2 ** 20) }));
  await expect(readBundle(path)).rejects.toThrow(/predictions\.json has more than/);
});

describe('an archive from anywhere', () => {
  test.each<[string, () => Promise<Buffer> | Buffer]>([
    ['is no zip', () => Buffer.from('no zip')],
    ['is empty', () => Buffer.alloc(0)],
    ['is cut short', () => bytes.subarray(0, bytes.length / 2)],
    ['has lost its first half', () => bytes.subarray(bytes.length / 2)],
    ['has something after its end', () => Buffer.concat([bytes, Buffer.from('more')])],
    ['climbs out of its folder', () => repack({ '../escaped.txt': 'x' })],
    ['climbs out from inside', () => repack({ 'source/../../escaped.txt': 'x' })],
    ['climbs out by backslashes', () => repack({ '..\\escaped.txt': 'x' })],
    ['has an absolute name', () => repack({ '/tmp/escaped.txt': 'x' })],
    ["has a drive's name", () => repack({ 'C:/escaped.txt': 'x' })],
    ['has a name that writes to the terminal', () => repack({ 'a\x1b[2Jb': 'x' })],
    ['has an absolute name that writes to the terminal', () => repack({ '/a\x1b[2Jb': 'x' })],
    ['has a link', () => zipOf('link', Buffer.from('/etc/passwd'), { unixPermissions: 0o120777 })],
    ['has a device', () => zipOf('device', Buffer.alloc(0), { unixPermissions: 0o020666 })],
    ['has a folder', () => zipOf('folder/', Buffer.alloc(0), { dir: true })],
    [
      'has a name twice',
      async () => overwrite(await repack({ 'zwei.txt': 'x', 'zwie.txt': 'y' }), 'zwie.txt', 'zwei.txt'),
    ],
    ['has a name twice where case does not matter', () => repack({ 'RUN.json': '{}' })],
    ['has an entry that the manifest lacks', () => zipOf('more.txt', Buffer.from('x'))],
    [
      'lacks an entry of the manifest',
      async () => packArchive(new Map([...entries].filter(([name]) => name !== ENTRY.readme))),
    ],
    [
      'has an entry that the manifest does not mean',
      () => packArchive(new Map([...entries, [ENTRY.readme, Buffer.from('x')]])),
    ],
    ['has no manifest', () => packArchive(new Map([...entries].filter(([name]) => name !== ENTRY.manifest)))],
    [
      'has a manifest of another format',
      () => packArchive(new Map([...entries, [ENTRY.manifest, Buffer.from('{"format":"x","version":1,"files":{}}')]])),
    ],
    ['has more than is allowed', () => repack({ bomb: MEGABYTE })],
    ['has more than it declares', async () => declareSize(await repack({ bomb: MEGABYTE }), 10)],
    ['has less than it declares', async () => declareSize(await repack({ bomb: Buffer.from('x') }), 10)],
    ['declares more than there is memory', async () => declareSize(await repack({ bomb: MEGABYTE }), 0xfffffffe)],
    [
      'has more entries than is allowed',
      () => repack(Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`${i}`, '']))),
    ],
    ['has no run', () => repack({ [ENTRY.run]: undefined })],
    ['has a run that is no JSON', () => repack({ [ENTRY.run]: '{' })],
    ['has a run of nothing', () => repack({ [ENTRY.run]: 'null' })],
    ['has a run that is not done', () => editRun(record => (record.status = 'running'))],
    ['has a run with a path for a name', () => editRun(record => (record.name = '../x'))],
    ['has a run with paths of its own', () => editRun(record => (record.dataOptions = { cacheDir: '/tmp' }))],
    ["has a run with a terminal's commands", () => editRun(record => (record.environment.cpu = '\x1b[2J'))],
    [
      'has a run with keys that write to the terminal',
      () => editRun(record => (record.dataOptions = { '\x1b[2J': 1 })),
    ],
    ['has a recipe that writes to the terminal', () => editRun(record => (record.recipe.model = '\x1b[2J'))],
    [
      'has a recipe without a bottom',
      () =>
        repack({
          [ENTRY.run]: entries
            .get(ENTRY.run)!
            .toString()
            .replace('"dropPath": 0.3', `"dropPath": ${'['.repeat(1e5)}${']'.repeat(1e5)}`),
        }),
    ],
    ['has a run with a long tale', () => editRun(record => (record.environment = 'x'.repeat(1e5)))],
    ['has a run without threads', () => editRun(record => delete record.environment.threads)],
    ['claims another accuracy', () => editRun(record => (record.result.top1 = 0.99))],
    ['claims another best epoch', () => editRun(record => (record.result.best.top1 = 0.99))],
    ['claims another loss', () => editRun(record => (record.result.loss /= 2))],
    ['claims another speed', () => editRun(record => (record.result.imagesPerSecond = 1e6))],
    ['claims more test images', () => editRun(record => (record.dataset.test *= 10))],
    ['asks for more epochs than it tells', () => editRun(record => (record.recipe.epochs = 1e9))],
    ['has an evaluation that its predictions are not', () => editEntry(ENTRY.evaluation, value => (value.top1 = 0.99))],
    ['has predictions that its evaluation is not', () => editEntry(ENTRY.predictions, value => value.top[0].reverse())],
    ['has epochs that its evaluation is not', () => editMetrics(rows => (rows.at(-1)!.evalTop1 = 0.99))],
    ['has epochs that their steps are not', () => editMetrics(rows => (rows[0].loss /= 2))],
    ['lacks a step', () => editMetrics(rows => rows.splice(1, 1))],
    ['was trained in two environments', () => editRun(record => (record.segments = [{ step: 1 }]))],
    ['has a name that Windows takes for a device', () => repack({ 'source/aux.txt': 'x' })],
    ['has metrics that are no JSON', () => repack({ [ENTRY.metrics]: '{}\nx\n' })],
    ['has metrics of another shape', () => repack({ [ENTRY.metrics]: '{"kind":"step","step":"1"}\n' })],
    [
      'has predictions of another shape',
      () => repack({ [ENTRY.predictions]: '{"labels":[1.5],"top":[],"probabilities":[]}' }),
    ],
    ['has more outputs than there is memory', () => editRun(record => (record.model.outputs = 4e9))],
    ['has a table of more outputs than a list can have', () => editRun(record => (record.model.outputs = 2 ** 40))],
    ['has a recipe of nothing', () => editRun(record => (record.recipe = {}))],
    [
      'has a configuration without a bottom',
      () => editRun(record => (record.model.config = JSON.parse(`{"a":${'['.repeat(2000)}${']'.repeat(2000)}}`))),
    ],
    ['has an evaluation of another shape', () => repack({ [ENTRY.evaluation]: '[]' })],
    ['lacks weights', () => repack({ [ENTRY.weights]: undefined })],
    ['has sources that its run was not made by', () => repack({ [`${SOURCE}lib/util/errors.ts`]: 'x' })],
    ['has more sources than its run', () => repack({ [`${SOURCE}lib/evil.ts`]: 'x' })],
    [
      'lacks the weights that its run began with',
      () => editRun(record => (record.init = { path: 'init.safetensors', sha256: '0'.repeat(64) })),
    ],
  ])('is refused where it %s', async (_what, make) => {
    const folder = mkdtempSync(join(runs, 'hostile-'));
    const path = join(folder, 'deep', 'evil.zip');
    mkdirSync(dirname(path));
    writeFileSync(path, await make());
    const before = readdirSync(runs, { recursive: true });
    const error = await readBundle(path, bounds()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect((error as UserError).message).toMatch(/^\P{Cc}{1,500}\.$/u);
    expect(readdirSync(runs, { recursive: true })).toEqual(before);
  });

  test('is within the bounds that refuse the others, when it is good', async () => {
    expect((await readBundle(file, bounds())).run.name).toBe('plain');
    await expect(readBundle(join(runs, 'nowhere.zip'))).rejects.toThrow(UserError);
  });

  test('says after damage what it said before, or is refused', async () => {
    const good = await readBundle(file);
    const rng = random(0);
    const path = join(runs, 'damaged.zip');
    let refused = 0;
    for (let i = 0; i < 40; i++) {
      const damaged = Buffer.from(bytes);
      damaged[Math.floor(rng.uniform() * damaged.length)] ^= 1 + Math.floor(rng.uniform() * 255);
      writeFileSync(path, damaged);
      try {
        expect(isDeepStrictEqual(await readBundle(path), good)).toBe(true); // toEqual goes through megabytes number by number
      } catch (error) {
        expect(error).toBeInstanceOf(UserError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(20); // most bytes are contents
  });
});

test('an experiment is the bundles of its runs and their rows, which say the same', async () => {
  const all = async (path: string) => {
    const names: string[] = [];
    for await (const bundle of readBundles(path)) names.push(bundle.run.name);
    return names;
  };
  const path = join(runs, 'experiment.zip');
  const row = trialRow(run, tinyPlan({ ema: 0 }), { variant: 'full', budget: 'a' });
  const bundles = new Map([['plain', bytes]]);
  writeFileSync(path, await packExperiment(bundles, formatResults([row])));
  expect(await all(path)).toEqual(['plain']);
  expect(await all(file)).toEqual(['plain']);
  for (const rows of [
    [],
    [{ ...row, top1: 0.99 }],
    [{ ...row, weights: '0'.repeat(16) }],
    [row, { ...row, variant: 'less' }],
  ]) {
    writeFileSync(path, await packExperiment(bundles, formatResults(rows)));
    await expect(all(path)).rejects.toThrow(UserError);
  }
  writeFileSync(path, await packExperiment(new Map([['plain', bytes.subarray(0, 1000)]]), formatResults([row])));
  await expect(all(path)).rejects.toThrow(UserError);
  writeFileSync(path, await packExperiment(bundles, formatResults([row]) + ' '.repeat(17 * 2 ** 20)));
  await expect(all(path)).rejects.toThrow(/results\.json has more than/);
});

test('the bundles of an experiment together hold no more than a few times what the file may', async () => {
  const path = join(runs, 'bombs.zip');
  const bomb = await repack({ bomb: Buffer.alloc(2e6) });
  const row = trialRow(run, tinyPlan({ ema: 0 }), { variant: 'full', budget: 'a' });
  const numbers = [0, 1, 2, 3, 4];
  const rows = numbers.map(i => ({ ...row, variant: `${i}` }));
  writeFileSync(path, await packExperiment(new Map(numbers.map(i => [`${i}`, bomb])), formatResults(rows)));
  const each = { ...bounds(), bytes: bounds().bytes + 2e6 };
  let read = 0;
  const readAll = async () => {
    for await (const _ of readBundles(path, each)) read++;
  };
  await expect(readAll()).rejects.toThrow(/holds more than/);
  expect(read).toBe(4);
});
