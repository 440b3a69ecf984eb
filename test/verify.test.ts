import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { allCombinations, pairwiseCombinations } from '../lib/cli/support/combinations';
import { chooseRows, publishedRows } from '../lib/cli/support/publishedRows';
import { hasGraphs } from '../lib/engine/binding';
import { allChecks, digestParts, firstDifference, type Golden, readGolden } from '../lib/measure/golden/golden';
import { codeFiles } from '../lib/runs/code';
import { NUMERICS } from '../lib/runs/environment';
import { power } from '../lib/util/power';
import { ROOT } from '../lib/util/root';

const folder = mkdtempSync(join(tmpdir(), 'golden-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('every check has its golden digests, of these numerics', () => {
  const golden = readGolden();
  expect(golden.numerics).toBe(NUMERICS);
  expect(Object.keys(golden.checks)).toEqual(allChecks().map(({ name }) => name));
  for (const { parts, sha256 } of Object.values(golden.checks)) expect(sha256).toBe(digestParts(parts));
});

test('nothing that decides a byte takes powers of the C library', () => {
  const files = codeFiles().filter(path =>
    /^lib\/(data\/(sources\/flower|transforms\/)|train\/(optimizers|schedule|finetune|loss|step)|tensor\/|engine\/fused|util\/random)/.test(
      path,
    ),
  );
  expect(files.length).toBeGreaterThan(12);
  for (const path of files)
    expect(readFileSync(join(ROOT, path), 'utf8').replace(/^\s*(\*|\/\*\*|\/\/).*$/gm, ''), path).not.toMatch(
      / \*\* |Math\.pow|Math\.hypot/,
    );
});

test.each([
  [0.9, 1],
  [0.999, 1000],
  [1.5, 0],
  [-0.3, 7],
])('%f to the power of %i', (base, exponent) => {
  expect(power(base, exponent) / base ** exponent).toBeCloseTo(1, 12);
});

test('what differs first is named, and how much does', () => {
  const parts = { 'loss of step 1': '1.5', 'loss of step 2': '1.25', weights: 'a' };
  expect(firstDifference(parts, { ...parts })).toBeUndefined();
  expect(firstDifference(parts, { ...parts, 'loss of step 2': '1.2500001', weights: 'b' })).toBe(
    'loss of step 2: 1.25 expected, 1.2500001 here; 2 of 3 differ',
  );
  expect(firstDifference(parts, { 'loss of step 1': '1.5', weights: 'a' })).toMatch(/^loss of step 2: .*missing here/);
});

describe('published rows', () => {
  const { rows, skipped } = publishedRows();

  test('can be trained by everybody, on images that come with the lab, one of each experiment at least', () => {
    expect(rows.length).toBeGreaterThanOrEqual(12);
    for (const { name, row } of rows) expect(row.origin.environment.kernels, name).toBe('own');
    const experiments = new Set(
      rows.filter(({ row }) => row.data === 'petals').map(({ name }) => name.split('-petals')[0]),
    );
    expect([...experiments]).toEqual(
      expect.arrayContaining(['article', 'attention', 'delegates', 'flowers', 'lgl', 'sample-rates', 'variants']),
    );
    expect(skipped.join()).toContain('lgl-flowers12: of numerics 0');
  });

  test('are chosen by number, evenly spread, or by name', () => {
    const names = (wanted: string) => chooseRows(rows, wanted).map(({ name }) => name);
    expect(names('1')).toEqual([rows[0]!.name]);
    expect(new Set(names('3')).size).toBe(3);
    expect(names('1000')).toHaveLength(rows.length);
    expect(names('lgl-petals/noLocalAgg/0')).toEqual(['lgl-petals/noLocalAgg/0']);
    expect(() => chooseRows(rows, 'lgl-petals/noLocalAg/0')).toThrow("did you mean 'lgl-petals/noLocalAgg/0'?");
  });
});

test('few combinations hold every two values', () => {
  const nodes = ['v20', 'v22', 'v24'].map(version => ({ path: version, version }));
  const all = allCombinations({
    threads: [2, 1, 3],
    isas: ['avx2', 'portable'],
    compilers: ['g++', 'clang++'],
    nodes,
    skipped: [],
  });
  expect(all).toHaveLength(36);
  const chosen = pairwiseCombinations(all, 100);
  expect(chosen.length).toBeLessThan(13);
  for (const node of nodes)
    for (const threads of [1, 2, 3]) expect(chosen).toContainEqual(expect.objectContaining({ node, threads }));
  expect(pairwiseCombinations(all, 6)).toEqual(chosen.slice(0, 6));
});

describe.skipIf(!hasGraphs())('npm run verify', () => {
  const golden = join(folder, 'golden.json');
  const verify = (...args: string[]) =>
    spawnSync(
      process.execPath,
      ['--import', 'tsx', 'lib/cli/main.ts', 'verify', '--only=^host data|LabSum', `--golden=${golden}`, ...args],
      { cwd: ROOT, encoding: 'utf8' },
    );

  test('ends with 0 where all is the same, with 1 and what differs first where it is not', () => {
    expect(verify().status).toBe(1); // none there yet
    expect(verify('--update', '--threads=1').status).toBe(0);
    expect(verify('--threads=3')).toMatchObject({ status: 0, stdout: expect.stringContaining('2 of 2 checks') });

    const altered = JSON.parse(readFileSync(golden, 'utf8')) as Golden;
    altered.checks['host data']!.parts['jitter: images'] = '0'.repeat(12);
    writeFileSync(golden, JSON.stringify(altered));
    const { status, stdout } = verify();
    expect(status).toBe(1);
    expect(stdout).toMatch(/DIFFERENT host data.*\n +jitter: images: 000000000000 expected, [0-9a-f]{12} here; 1 of/);

    writeFileSync(golden, JSON.stringify({ ...altered, numerics: NUMERICS - 1 }));
    expect(verify()).toMatchObject({ status: 1, stderr: expect.stringContaining(`numerics ${NUMERICS - 1}`) });
  }, 120_000);
});
