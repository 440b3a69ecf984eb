import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeReport } from '../lib/report/runReport';
import { comparison, listTable } from '../lib/report/runTables';
import { claimRun } from '../lib/runs/claim';
import { consoleReporter } from '../lib/runs/console';
import { deleteRun, isAskedFor, writeNote } from '../lib/runs/manage';
import { listRuns, openRun, type Run, type RunRecord } from '../lib/runs/store';
import { startTrial } from '../lib/runs/trial';
import { UserError } from '../lib/util/errors';
import { thisProcess } from '../lib/util/owner';
import { ROOT } from '../lib/util/root';
import { tinyPlan } from './training';

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
  plain = await startTrial({
    plan: tinyPlan({ epochs: 1 }),
    recipeName: 'petals',
    about: 'a test',
    runs,
    name: 'plain',
    reporter: consoleReporter({ write: () => true }),
    writeReport,
  });
  alter(plain, 'killed', { status: 'running', result: null, owner: { ...thisProcess(), pid: NO_PROCESS } });
  alter(plain, 'other', {
    recipe: { ...plain.record.recipe, lr: 0.125 },
    environment: { ...plain.record.environment, threads: 64 },
  });
});

/** The cells of a table by its first column; cells are two spaces apart. */
const rows = (table: string): Record<string, string[]> =>
  Object.fromEntries(
    table
      .split('\n')
      .map(line => line.trim().split(/ {2,}/))
      .map(([first, ...rest]) => [first, rest]),
  );

test('lists runs with a status that is true after a crash', () => {
  const lines = listTable(listRuns(runs)).split('\n').slice(2);
  expect(lines.map(line => [line.split(' ')[0], line.split(' ').at(-1)]).sort()).toEqual([
    ['done', 'other'],
    ['done', 'plain'],
    ['interrupted', 'killed'],
  ]);
});

describe('runs are managed', () => {
  test('chosen by status, settings, and words of name or note', () => {
    const names = (...filters: string[]): string[] =>
      listRuns(runs)
        .filter(run => isAskedFor(run, filters))
        .map(run => run.record.name)
        .sort();
    writeNote(openRun(runs, 'other'), 'a larger learning rate');
    expect(names('status=interrupted')).toEqual(['killed']);
    expect(names('lr=0.125')).toEqual(['other']);
    expect(names('depths=1,1,1,1', 'status=done')).toEqual(['other', 'plain']);
    expect(names('larger')).toEqual(['other']);
    expect(names('larger', 'lr=1')).toEqual([]);
    expect(() => names('lrr=1')).toThrow(/did you mean 'lr'/);
    expect(listTable(listRuns(runs))).toContain('a larger learning rate');
    writeNote(openRun(runs, 'other'), '');
    expect(names('larger')).toEqual([]);
    expect(() => writeNote(plain, 'two\nlines')).toThrow(UserError);
  });

  test('deleted whole, unless one is running', () => {
    const gone = alter(plain, 'gone', {});
    deleteRun(gone);
    expect(readdirSync(runs).filter(name => name === 'gone' || name.startsWith('.'))).toEqual([]);
    const running = alter(plain, 'running', { status: 'running', owner: thisProcess() });
    expect(() => deleteRun(running)).toThrow(UserError);
    running.update({ status: 'done' });
    deleteRun(running);
  });
});

test('a headline that the files beside it contradict is doubted', () => {
  const { result } = plain.record;
  const edited = alter(plain, 'edited', { result: { ...result!, top1: 0.99 } });
  expect(listTable([plain])).not.toContain('?');
  expect(listTable([edited])).toContain('99.0 % ?');
  expect(comparison([plain])).not.toContain('contradicts');
  expect(comparison([plain, edited])).toMatch(/^\[2\] contradicts itself: top1 of run.json is 0.99/m);
  deleteRun(edited);
});

describe('a comparison', () => {
  test('shows what differs, marked where it is unlike the first, and nothing else', () => {
    const text = comparison([plain, openRun(runs, 'killed'), openRun(runs, 'other')]);
    const { lr, threads, ...others } = rows(text);
    expect([lr, threads]).toEqual([
      ['0.003', '0.003', '0.125*'],
      [`${plain.record.environment.threads}`, `${plain.record.environment.threads}`, '64*'],
    ]);
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
    expect(settings).toMatchObject({
      lr: ['0.003'],
      'augment.mixup': ['0.5'],
      depths: ['1,1,1,1'],
      threads: [`${plain.record.environment.threads}`],
    });
  });
});

test('the command loads no engine, and says in a sentence that there is no such run', () => {
  const blocker = join(runs, 'blocker.cjs');
  writeFileSync(
    blocker,
    "const Module = require('node:module'); const { _load } = Module;\nModule._load = (name, ...rest) => { if (name.startsWith('@tensorflow')) throw new Error('loads the engine'); return _load(name, ...rest); };\n",
  );
  const command = (...names: string[]) =>
    spawnSync(
      process.execPath,
      ['--require', blocker, '--import', 'tsx', 'lib/cli/main.ts', 'runs', ...names, `--runs=${runs}`],
      { cwd: ROOT, encoding: 'utf8' },
    );
  const { status, stdout, stderr } = command();
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toContain('interrupted');
  const missing = command('plain', 'none');
  expect(missing).toMatchObject({ status: 2, stdout: '' });
  expect(missing.stderr).toMatch(/^There is no run 'none'[^\n]*\n$/);
});

describe('a run that was interrupted', () => {
  const gone = JSON.stringify({ ...thisProcess(), pid: NO_PROCESS });
  const broken = (name: string): Run => alter(plain, name, { status: 'interrupted' });

  test('is claimed by one, until that one gives it back or a session began', () => {
    const run = broken('claimed');
    const end = claimRun(run)!;
    expect(claimRun(openRun(runs, 'claimed'))).toBeUndefined();
    end();
    const stale = openRun(runs, 'claimed');
    const endAgain = claimRun(run)!;
    run.update({ resumedAt: [3] });
    endAgain();
    expect(claimRun(stale)).toBeUndefined();
    expect(readdirSync(run.folder).filter(name => name.startsWith('.'))).toEqual([]);
  });

  test('is claimed by one of several processes at once, past those that were killed', async () => {
    const names = Array.from({ length: 30 }, (_, i) => `contested-${i}`);
    for (const name of names) symlinkSync(gone, join(broken(name).folder, '.claim-0-1'));
    // Each tells which it got, and lives on until its input ends, so that the others find it alive.
    const script = join(runs, 'contender.ts');
    writeFileSync(
      script,
      `
      import { claimRun } from '${ROOT}/lib/runs/claim';
      import { openRun } from '${ROOT}/lib/runs/store';
      process.stdout.write('ready\\n');
      process.stdin.once('data', () => process.stdout.write(JSON.stringify(${JSON.stringify(names)}.filter(name => claimRun(openRun('${runs}', name)))) + '\\n'));
    `,
    );
    const contenders = Array.from({ length: 3 }, () =>
      spawn(process.execPath, ['--import', 'tsx', script], { cwd: ROOT, stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    try {
      const answers = contenders.map(({ stdout }) => createInterface(stdout)[Symbol.asyncIterator]());
      await Promise.all(answers.map(answer => answer.next()));
      for (const { stdin } of contenders) stdin.write('go\n');
      const got = await Promise.all(
        answers.map(async answer => JSON.parse((await answer.next()).value as string) as string[]),
      );
      expect(got.flat().sort()).toEqual([...names].sort());
    } finally {
      for (const { stdin } of contenders) stdin.end();
    }
  });
});
