import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readFixture } from '../lib/measure/fixture';
import { checkParity } from '../lib/measure/parity';
import { UserError } from '../lib/util/errors';

const fixture = (name: string): string => join(__dirname, 'fixtures', `${name}.json`);
const folder = mkdtempSync(join(tmpdir(), 'parity-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A fixture with some of it changed, as a file. */
function changed(name: string, change: (json: any) => void): string {
  const json = JSON.parse(readFileSync(fixture(name), 'utf8'));
  change(json);
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify(json));
  return path;
}

describe.each([
  'RULE',
  'blocks',
  'lgl_grad',
  'tiny_train',
  'edgevit_xxs',
  'edgevit_xs',
  'edgevit_s',
  'official_stats',
  'seed_single_stage',
])('%s', name => {
  test('agrees with the float64 reference', () => {
    const cases = [...checkParity(readFixture(fixture(name)))];
    expect(cases.length).toBeGreaterThan(0);
    expect(cases.filter(({ passed }) => !passed)).toEqual([]);
  });
});

describe('a difference is found', () => {
  test.each<[string, string, (json: any) => void]>([
    ['in an output', 'blocks', json => (json.cases[0].output[5] += 1e-5)],
    ['in a gradient', 'lgl_grad', json => (json.grads[3].data[0] *= 1.01)],
    ['in a running variance', 'lgl_grad', json => (json.buffers_after[1].data[0] *= 1.0001)],
    ['in a loss', 'tiny_train', json => (json.adamw.losses_before_each_step[9] *= 1.001)],
    ['in a shape', 'blocks', json => (json.cases[0].state_dict[2][1] = [8, 3, 2, 2])],
    ['in the weights', 'lgl_grad', json => (json.hash_prefix = 'holdout/lgl_grad/')],
  ])('%s', (_where, name, change) => {
    expect([...checkParity(readFixture(changed(name, change)))].some(({ passed }) => !passed)).toBe(true);
  });
});

describe('what is no fixture is refused', () => {
  test.each<[string, () => string]>([
    ['a missing file', () => join(folder, 'none.json')],
    ['no JSON', () => __filename],
    ['an unknown kind', () => changed('lgl_grad', json => (json.kind = 'recipe'))],
    ['a field of another type', () => changed('lgl_grad', json => (json.input_shape = 'square'))],
    ['a size that does not fit', () => changed('edgevit_xxs', json => (json.input_shape = [1, 3, 112, 112]))],
  ])('%s', (_what, file) => {
    expect(() => [...checkParity(readFixture(file()))]).toThrow(UserError);
  });
});

test('the command exits with 1 where results differ, and with 2 and one sentence where a file is missing', () => {
  const run = (file: string) =>
    spawnSync(process.execPath, ['node_modules/tsx/dist/cli.mjs', 'lib/cli/main.ts', 'parity', file], {
      cwd: join(__dirname, '..'),
      encoding: 'utf8',
    });
  expect(run(changed('lgl_grad', json => (json.loss += 1))).status).toBe(1);
  const missing = run(join(folder, 'none.json'));
  expect(missing.status).toBe(2);
  expect(
    missing.stderr
      .trim()
      .split('\n')
      .filter(line => !line.startsWith('engine')),
  ).toHaveLength(1);
});
