import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { execute } from '../lib/util/processes';
import { ROOT } from '../lib/util/root';

/** A checkout of its own, in which the example of CONTRIBUTING.md is carried out as it stands. */
const copy = mkdtempSync(join(tmpdir(), 'ablation-'));
afterAll(() => rmSync(copy, { recursive: true, force: true }));

const TIMEOUT = 400_000; // six trainings in processes of their own, on a machine that may be busy with others

beforeAll(() => {
  const tracked = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: ROOT });
  for (const path of tracked.toString().split('\0').filter(Boolean))
    if (existsSync(join(ROOT, path))) cpSync(join(ROOT, path), join(copy, path));
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
});

/** `npm run …` in the copy; what it printed. */
async function npmRun(...args: string[]): Promise<string> {
  const { INIT_CWD: _, ...env } = process.env;
  const { code, output } = await execute('npm', ['run', '--silent', ...args], { cwd: copy, env });
  expect(code, output).toBe(0);
  return output;
}

/** The example of a document: what each file of its diff has in place of what, and the commands below it. */
function example(document: string): { edits: [path: string, old: string, now: string][]; commands: string[][] } {
  const text = document.slice(document.indexOf('### An example'));
  const [, diff] = /^```diff\n([\s\S]*?)^```/m.exec(text)!;
  const [, shell] = /^```sh\n([\s\S]*?)^```/m.exec(text)!;
  const edits = diff
    .split(/^--- .*\n\+\+\+ b\//m)
    .slice(1)
    .flatMap((file): [string, string, string][] => {
      const [path, ...lines] = file.trimEnd().split('\n');
      const hunks = lines.join('\n').split(/^@@.*\n/m);
      const side = (hunk: string, mark: string): string =>
        hunk
          .split('\n')
          .filter(line => line[0] === mark || line[0] === ' ')
          .map(line => `${line.slice(1)}\n`)
          .join('');
      return hunks.filter(Boolean).map(hunk => [path, side(hunk, '-'), side(hunk, '+')]);
    });
  return {
    edits,
    commands: shell
      .trim()
      .split('\n')
      .map(line => line.split(' ').slice(2)),
  };
}

function apply(path: string, old: string, now: string): void {
  const file = join(copy, path);
  if (old === '') {
    writeFileSync(file, now);
    return;
  }
  const [before, after, ...more] = readFileSync(file, 'utf8').split(old);
  expect(after !== undefined && more.length === 0, `${path} has once:\n${old}`).toBe(true);
  writeFileSync(file, before + now + after);
}

/** So that a training takes a second: tiny, and one epoch. */
const DATA = '--data=petals:classes=3,train=8,test=4,size=32';
const TINY = [
  '--size=32',
  '--epochs=1',
  ...['batch=4', 'depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2'].flatMap(setting => ['--set', setting]),
];

interface Row {
  variant: string;
  trial: string;
  weights: string;
  recipe: { seed: number };
}

const rowsOf = (experiment: string): Row[] =>
  (JSON.parse(readFileSync(join(copy, `experiments/results/${experiment}-petals.json`), 'utf8')) as { rows: Row[] })
    .rows;
const told = (rows: readonly Row[]) =>
  rows.map(({ variant, trial, weights, recipe: { seed } }) => ({ variant, seed, trial, weights }));

test(
  'a setting in its schema and an experiment in a file: published rows keep their keys, the report shows the new ones',
  async () => {
    const parts = [
      'experiment',
      '--',
      'lgl',
      DATA,
      ...TINY,
      '--seeds=1',
      '--only=full,noLocalAgg',
      '--jobs=2',
      '--save',
    ];
    const published = rowsOf('lgl').map(({ trial }) => trial);
    await npmRun(...parts);
    const before = told(rowsOf('lgl'));
    const saved = before.filter(({ trial }) => !published.includes(trial));
    expect(saved).toHaveLength(2);

    const { edits, commands } = example(readFileSync(join(copy, 'CONTRIBUTING.md'), 'utf8'));
    const [setting, experiment, ...more] = new Set(edits.map(([path]) => path));
    expect([setting, experiment, more]).toEqual(['lib/model/blocks.ts', 'experiments/position-encoding.ts', []]);
    for (const edit of edits) apply(...edit);
    await npmRun(...parts);
    expect(told(rowsOf('lgl'))).toEqual(before);

    expect(await npmRun('experiments')).toContain('position-encoding');
    for (const [command, ...args] of commands) {
      const small = command === 'report' ? [] : [DATA, ...TINY, ...(command === 'experiment' ? ['--seeds=1'] : [])];
      await npmRun(command, ...args, ...small);
    }
    const [full, without] = rowsOf('position-encoding');
    expect([full.variant, without.variant]).toEqual(['full', 'noPosEmbed']);
    expect(full.weights).toBe(saved.find(({ variant }) => variant === 'full')!.weights);
    expect(without.weights).not.toBe(full.weights);

    const report = join(copy, 'experiments/report');
    expect(readFileSync(join(report, 'report.html'), 'utf8')).toContain('What the position encoding buys');
    expect(readFileSync(join(report, 'tables.md'), 'utf8')).toMatch(/^\| noPosEmbed \|/m);
    expect(existsSync(join(report, 'charts/position-encoding-runs.svg'))).toBe(true);
  },
  TIMEOUT,
);
