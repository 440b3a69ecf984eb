import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ROOT } from '../lib/util/root';
import { nearest } from '../lib/util/suggest';

const folder = mkdtempSync(join(tmpdir(), 'command-line-'));
afterAll(() => rmSync(folder, { recursive: true }));

const MAIN = join(ROOT, 'lib/cli/main.ts');
const NODE = ['--import', 'tsx', MAIN];

/** As npm starts a script: in the checkout, with what it took for its own options in the environment. */
function npmRun(args: readonly string[], environment: Record<string, string> = {}) {
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('npm_config_')));
  const { status, stdout, stderr } = spawnSync(process.execPath, [...NODE, ...args], {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...own, INIT_CWD: folder, npm_lifecycle_event: args[0], ...environment },
  });
  return { status, stdout, stderr };
}

describe('options that npm took for its own', () => {
  test.each([
    ['train', 'npm_config_data', 'folder:photos'],
    ['train', 'npm_config_epochs', '1'],
    ['experiment', 'npm_config_dry_run', 'true'],
    ['bundle', 'npm_config_out', 'x.zip'],
  ])('%s stops at %s, before anything is computed', (command, name, value) => {
    const { status, stderr } = npmRun([command], { [name]: value });
    expect(status).toBe(2);
    expect(stderr).toContain(`--${name.slice('npm_config_'.length).replaceAll('_', '-')}`);
    expect(stderr).toContain(`npm run ${command} -- `);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  test("what people keep in their .npmrc isn't taken for it", () => {
    expect(
      npmRun(['runs', `--runs=${folder}/none`], { npm_config_save: 'false', npm_config_cache: '/x' }).stderr,
    ).not.toContain('npm took');
  });
});

describe('mistyped names', () => {
  test.each([
    [['repotr'], "did you mean 'report'?"],
    [['train', '--model=edgevit-xxss'], "did you mean 'edgevit-xxs'?"],
    [['train', '--set', 'lrr=1'], "did you mean 'lr'?"],
    [['train', '--set', 'sampelRates=1,1,1,1'], "did you mean 'sampleRates'?"],
    [['train', '--ablation=noLocalAg'], "did you mean 'noLocalAgg'?"],
    [['experiment', 'lgk'], "did you mean 'lgl'?"],
    [['train', '--epoch=3'], 'Did you mean --epochs?'],
  ])('%s', (args, question) => {
    const { status, stderr } = npmRun(args);
    expect(status).toBe(2);
    expect(stderr).toContain(question);
    expect(stderr).not.toMatch(/[?.][.]/);
  });

  test('nothing is suggested for what is like none', () => {
    expect(nearest('zzzzzz', ['lr', 'size', 'epochs'])).toBeUndefined();
  });

  test('help lists the commands', () => {
    const { status, stdout } = npmRun(['help']);
    expect(status).toBe(0);
    expect(stdout).toContain('train');
    for (const word of ['help', '--help']) expect(npmRun(['bundle', word]).stdout).toContain('--out <path>');
  });
});

test('relative paths are meant from where npm was called, and ~ is home', () => {
  mkdirSync(join(folder, 'mine'));
  expect(npmRun(['runs', 'absent', '--runs=mine']).stderr).not.toContain(ROOT);
  expect(npmRun(['runs', '--runs=mine']).status).toBe(0);
  const { stderr } = npmRun(['data', 'folder:~/no-such-folder-of-images']);
  expect(stderr).toContain(join(homedir(), 'no-such-folder-of-images'));
});

test('a training whose reader has gone trains to its end', async () => {
  const runs = join(folder, 'runs');
  const args = [
    'train',
    '--data=petals:classes=3,train=8,test=4,size=32',
    '--size=32',
    '--batch=8',
    '--epochs=3',
    '--name=unread',
    `--runs=${runs}`,
  ];
  const tiny = ['depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2'].flatMap(setting => ['--set', setting]);
  const child = spawn(process.execPath, [...NODE, ...args, ...tiny], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<number | null>(resolve => child.on('close', resolve));
  child.stdout.once('data', () => child.stdout.destroy());
  child.stderr.once('data', () => child.stderr.destroy());
  expect(await ended).toBe(0);
  expect(readFileSync(join(runs, 'unread/log.txt'), 'utf8').match(/^epoch \d\/3 /gm)).toHaveLength(3); // what nobody read
  const record = join(runs, 'unread', 'run.json');
  expect(existsSync(record) && (JSON.parse(readFileSync(record, 'utf8')) as { status: string }).status).toBe('done');
});
