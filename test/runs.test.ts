import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '../lib/lab/code';
import { consoleReporter } from '../lib/lab/console';
import { listRuns, openRun, thisProcess, type Run, type RunRecord } from '../lib/lab/runs';
import { comparison, listTable } from '../lib/lab/runTables';
import { startTrial } from '../lib/lab/trial';
import { tinyRecipe } from './training';

const runs = mkdtempSync(join(tmpdir(), 'runs-'));
afterAll(() => rmSync(runs, { recursive: true }));

/** No process has this number: Linux ends at 2²². */
const NO_PROCESS = 2 ** 22 + 1;

/** A copy of a run with another record. */
function alter(run: Run, name: string, changes: Partial<RunRecord>): Run {
  cpSync(run.folder, join(runs, name), { recursive: true });
  openRun(runs, name).update({ name, ...changes });
  return openRun(runs, name);
}

let plain: Run;
beforeAll(async () => {
  plain = await startTrial({ recipe: tinyRecipe({ epochs: 1 }), recipeName: 'petals', about: 'a test', runs, name: 'plain', reporter: consoleReporter({ write: () => true }) });
  alter(plain, 'killed', { status: 'running', result: null, owner: { ...thisProcess(), pid: NO_PROCESS } });
  alter(plain, 'other', { recipe: { ...plain.record.recipe, lr: 0.125 }, environment: { ...plain.record.environment, threads: 64 } });
});

/** The cells of a table by its first column; cells are two spaces apart. */
const rows = (table: string): Record<string, string[]> => Object.fromEntries(table.split('\n').map(line => line.trim().split(/ {2,}/)).map(([first, ...rest]) => [first, rest]));

test('lists runs with a status that is true after a crash', () => {
  const lines = listTable(listRuns(runs)).split('\n').slice(2);
  expect(lines.map(line => [line.split(' ')[0], line.split(' ').at(-1)]).sort()).toEqual([['done', 'other'], ['done', 'plain'], ['interrupted', 'killed']]);
});

describe('a comparison', () => {
  test('shows what differs, marked where it is unlike the first, and nothing else', () => {
    const text = comparison([plain, openRun(runs, 'killed'), openRun(runs, 'other')]);
    const { lr, threads, ...others } = rows(text);
    expect([lr, threads]).toEqual([['0.003', '0.003', '0.125*'], [`${plain.record.environment.threads}`, `${plain.record.environment.threads}`, '64*']]);
    expect(others).not.toHaveProperty('batch');
    expect(others).not.toHaveProperty('cpu');
  });

  test('on a terminal makes them stand out, in the places that they have in a pipe', () => {
    const pair = [plain, openRun(runs, 'other')];
    const shown = comparison(pair, text => `<${text}>`);
    expect(shown).toContain('<0.125>');
    expect(shown).toContain('<64>');
    expect(shown.match(/</g)).toHaveLength(2);
  });

  test('of one run shows all its settings', () => {
    const settings = rows(comparison([plain]));
    expect(settings).toMatchObject({ lr: ['0.003'], 'augment.mixup': ['0.5'], depths: ['1,1,1,1'], threads: [`${plain.record.environment.threads}`] });
  });
});

test('the command loads no engine, and says in a sentence that there is no such run', () => {
  const blocker = join(runs, 'blocker.cjs');
  writeFileSync(blocker, "const Module = require('node:module'); const { _load } = Module;\nModule._load = (name, ...rest) => { if (name.startsWith('@tensorflow')) throw new Error('loads the engine'); return _load(name, ...rest); };\n");
  const command = (...names: string[]) => spawnSync(process.execPath, ['--require', blocker, '--import', 'tsx', 'experiments/cli.ts', 'runs', ...names, `--runs=${runs}`], { cwd: ROOT, encoding: 'utf8' });
  const { status, stdout, stderr } = command();
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toContain('interrupted');
  const missing = command('plain', 'none');
  expect(missing).toMatchObject({ status: 2, stdout: '' });
  expect(missing.stderr).toMatch(/^There is no run 'none'[^\n]*\n$/);
});
