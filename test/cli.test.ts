import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { afterAll, describe, expect, test } from 'vitest';
import { register } from '../lib/cli/train';
import { UserError } from '../lib/util/errors';
import { DATA, sha256 } from './training';

const root = join(__dirname, '..');
const runs = mkdtempSync(join(tmpdir(), 'cli-'));
afterAll(() => rmSync(runs, { recursive: true }));

const SMALL = [
  `--data=${DATA}`,
  '--size=32',
  '--batch=4',
  '--epochs=8',
  `--runs=${runs}`,
  ...['depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2'].flatMap(setting => ['--set', setting]),
];

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A command in a process of its own, which gets a signal at one of its operations on files, by `fault.cjs`: whenever that is. */
function command(args: string[], fault?: { kind: 'kill' | 'interrupt'; at: number }): Promise<Ended> {
  return new Promise(resolve => {
    const preload = fault ? ['--require', join(__dirname, 'fault.cjs')] : [];
    const child = spawn(process.execPath, [...preload, '--import', 'tsx', 'lib/cli/main.ts', ...args], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        ...(fault && { FAULT: fault.kind, FAULT_AT: String(fault.at), FAULT_FOLDER: runs }),
      },
    });
    const ended: Ended = { code: null, stdout: '', stderr: '' };
    child.stdout.on('data', (data: Buffer) => (ended.stdout += data.toString()));
    child.stderr.on('data', (data: Buffer) => (ended.stderr += data.toString()));
    child.on('close', code => resolve({ ...ended, code }));
  });
}

const rows = (name: string): number =>
  existsSync(join(runs, name, 'metrics.jsonl'))
    ? readFileSync(join(runs, name, 'metrics.jsonl'), 'utf8').split('\n').length - 1
    : 0;
const record = (name: string) =>
  JSON.parse(readFileSync(join(runs, name, 'run.json'), 'utf8')) as { status: string; resumedAt: number[] };
const checkpoint = (name: string): string => sha256(join(runs, name, 'checkpoint-last.safetensors'));

describe('train', () => {
  test('exits with 2 for a mistake, and says it on stderr without a stack', async () => {
    const { code, stderr, stdout } = await command(['train', '--model=edgevit-m']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('edgevit-m');
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test('killed and resumed, interrupted and resumed, ends with the bytes of the run left alone', async () => {
    const alone = await command(['train', ...SMALL, '--name=alone']);
    expect(alone).toMatchObject({ code: 0 });
    expect(alone.stdout).not.toContain('\x1b'); // a pipe gets plain lines

    const killed = await command(['train', ...SMALL, '--name=killed'], { kind: 'kill', at: 60 });
    expect(killed.code).toBeNull();
    expect(rows('killed')).toBeGreaterThan(7); // an epoch and its row
    const interrupted = await command(['train', '--resume=killed', `--runs=${runs}`], { kind: 'interrupt', at: 40 });
    expect(interrupted.code).toBe(130);
    expect(interrupted.stdout).toContain('--resume=killed');
    expect(record('killed').status).toBe('interrupted');
    expect(await command(['train', '--resume=killed', `--runs=${runs}`, '--epochs=8'])).toMatchObject({ code: 0 });
    expect(checkpoint('killed')).toBe(checkpoint('alone'));
  });

  test.each<[string, string[], string[]]>([
    ['model', ['--model=edgevit-m'], ['edgevit-m', 'edgevit-xxs']],
    ['ablation', ['--ablation=none'], ['none', 'noLocalAgg']],
    ['recipe', ['--recipe=cars'], ['cars', 'flowers12']],
    ['setting', ['--set', 'learningRate=1'], ['learningRate', 'lr', 'sampleRates', 'augment.flip']],
    ['setting without a value', ['--set', 'lr'], ['lr', 'key=value']],
    ['value', ['--lr=fast'], ['lr', 'fast']],
    ['size', ['--size=50'], ['50', 'multiple of 32']],
    ['dataset', ['--data=tulips'], ['tulips', 'petals']],
    ['batch', ['--batch=1000'], ['1000', '24']],
    ['weights', ['--init=nowhere.safetensors'], ['nowhere.safetensors']],
    ['run to resume', ['--resume=nothing'], ['nothing']],
    ['other weights for a resumed run', ['--resume=alone', '--weights=easycv:xxs'], ['--weights=easycv:xxs']],
    ['other settings for a resumed run', ['--resume=alone', '--lr=0.5'], ['lr', '0.002', '0.5']],
    ['option', ['--learning-rate=1'], ['--learning-rate']],
  ])('says what is wrong with a bad %s in one line', async (_what, args, words) => {
    const program = new Command().exitOverride().configureOutput({ outputError: () => {} });
    register(program);
    const rest = args[0].startsWith('--resume') ? [`--runs=${runs}`] : SMALL;
    const error = await program
      .parseAsync(['train', ...rest, ...args], { from: 'user' })
      .catch((thrown: unknown) => thrown);
    expect(error instanceof UserError || error instanceof CommanderError).toBe(true); // what the commands' entrance turns into exit 2
    const { message } = error as Error;
    expect(message).not.toContain('\n');
    for (const word of words) expect(message).toContain(word);
  });
});
