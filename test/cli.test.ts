import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { register } from '../lib/cli/train';
import { UserError } from '../lib/util/errors';
import { DATA } from './training';

const root = join(__dirname, '..');
const runs = mkdtempSync(join(tmpdir(), 'cli-'));
afterAll(() => rmSync(runs, { recursive: true }));

const SMALL = [
  `--data=${DATA}`,
  '--size=32',
  '--batch=4',
  '--epochs=1',
  `--runs=${runs}`,
  ...['depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2'].flatMap(setting => ['--set', setting]),
];

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A command in a process of its own. */
function command(args: string[]): Promise<Ended> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'lib/cli/main.ts', ...args], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended: Ended = { code: null, stdout: '', stderr: '' };
    child.stdout.on('data', (data: Buffer) => (ended.stdout += data.toString()));
    child.stderr.on('data', (data: Buffer) => (ended.stderr += data.toString()));
    child.on('close', code => resolve({ ...ended, code }));
  });
}

describe('train', () => {
  beforeAll(async () => {
    expect(await command(['train', ...SMALL, '--name=alone'])).toMatchObject({ code: 0 });
  });

  test('exits with 2 for a mistake, and says it on stderr without a stack', async () => {
    const { code, stderr, stdout } = await command(['train', '--model=edgevit-m']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('edgevit-m');
    expect(stderr).not.toMatch(/^\s+at /m);
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
