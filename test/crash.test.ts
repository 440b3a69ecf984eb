import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { listRuns, openRun, type Run } from '../lib/runs/store';
import { random } from '../lib/util/random';
import { ROOT } from '../lib/util/root';
import { readTensors } from '../lib/weights/tensorFiles';
import { DATA, sha256 } from './training';

/** How many times a training is killed: each takes two or three seconds, so that all thirty are for those who ask (CRASHES=30). */
const CRASHES = Number(process.env.CRASHES ?? 6);
const TIMEOUT = 120_000 + 30_000 * CRASHES;

const runs = mkdtempSync(join(tmpdir(), 'crashes-'));
afterAll(() => rmSync(runs, { recursive: true }));

const EPOCHS = '--epochs=6'; // may be said again of a run that is resumed
const SMALL = [
  `--data=${DATA}`,
  '--size=32',
  '--batch=4',
  EPOCHS,
  ...['depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2', 'ema=0.9'].flatMap(setting => ['--set', setting]),
];

interface Session {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  /** Milliseconds from the moment when training began. */
  trained: number;
}

interface Trouble {
  /** At a file operation, by `fault.cjs`. */
  fault?: { kind: 'kill' | 'interrupt' | 'full'; at: number };
  /** SIGKILL so many milliseconds after training began. */
  killAfter?: number;
  /** Limits the size of files, in kB. */
  limit?: number;
}

/** Begins the run of a name, or resumes with it where it has begun: the real command in a process of its own. */
function session(name: string, { fault, killAfter, limit }: Trouble = {}): Promise<Session> {
  const train = existsSync(join(runs, name)) ? [`--resume=${name}`, EPOCHS] : [...SMALL, `--name=${name}`];
  const node = [
    process.execPath,
    ...(fault ? ['--require', join(__dirname, 'fault.cjs')] : []),
    '--import',
    'tsx',
    'lib/cli/main.ts',
    'train',
    `--runs=${runs}`,
    ...train,
  ];
  const words = limit === undefined ? node : ['bash', '-c', `ulimit -f ${limit}; exec "$@"`, 'bash', ...node];
  const env = fault
    ? { ...process.env, FAULT: fault.kind, FAULT_AT: String(fault.at), FAULT_FOLDER: runs }
    : process.env;
  return new Promise(resolve => {
    const child = spawn(words[0], words.slice(1), { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    let began: number | undefined;
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
    child.stdout.on('data', (data: Buffer) => {
      stdout += data.toString();
      if (began !== undefined || !/^run /m.test(data.toString())) return;
      began = performance.now();
      if (killAfter !== undefined) setTimeout(() => child.kill('SIGKILL'), killAfter);
    });
    child.on('close', (code, signal) =>
      resolve({ code, signal, stdout, stderr, trained: performance.now() - (began ?? performance.now()) }),
    );
  });
}

/** Everything of a run that does not depend on how fast the machine was. */
const outcome = (run: Run) => ({
  files: readdirSync(run.folder).sort(),
  last: sha256(run.lastCheckpoint),
  best: sha256(run.bestCheckpoint),
  metrics: run.metrics().map(row => ({ ...row, imagesPerSecond: null })),
  evaluation: readFileSync(join(run.folder, 'evaluation.json'), 'utf8'),
  predictions: readFileSync(join(run.folder, 'predictions.json'), 'utf8'),
  weights: run.record.result?.weights,
  status: run.status,
  sums: run.alteredFiles(),
});

/** Whatever a process left: what has its final name is whole, and the record knows that nobody works on it. */
function expectWhole(name: string): void {
  expect(listRuns(runs).filter(run => run.status === 'running')).toEqual([]);
  if (!existsSync(join(runs, name))) return;
  const run = openRun(runs, name);
  expect(run.record.name).toBe(name);
  run.metrics(); // all rows but one that was cut short
  const read = (file: string): string => readFileSync(join(run.folder, file), 'utf8');
  for (const file of readdirSync(run.folder)) {
    if (file.endsWith('.json')) JSON.parse(read(file));
    if (file.endsWith('.safetensors')) readTensors(join(run.folder, file));
    if (file.endsWith('.html')) expect(read(file)).toMatch(/<\/html>\s*$/);
    if (file.endsWith('.svg')) expect(read(file)).toMatch(/<\/svg>\s*$/);
  }
}

let undisturbed: ReturnType<typeof outcome>;
let trainingTime: number;
beforeAll(async () => {
  const { code, stdout, trained } = await session('undisturbed');
  expect(code).toBe(0);
  expect(stdout).not.toContain('\x1b'); // a pipe gets plain lines
  undisturbed = outcome(openRun(runs, 'undisturbed'));
  trainingTime = trained;
}, TIMEOUT);

/** About half of the operations on files of a whole run: sessions get on, and are killed again. */
const OPERATIONS = 90;

test(
  `killed ${CRASHES} times at random moments, resumed runs end with the bytes of the run left alone`,
  async () => {
    const rng = random('crash');
    let crashes = 0;
    for (let i = 0; crashes < CRASHES; i++) {
      const name = `killed-${i}`;
      for (let ended = false; !ended; ) {
        // By turns at a file operation, with a write half done, and by the clock, wherever that finds it.
        const trouble =
          crashes % 2 === 0
            ? { fault: { kind: 'kill', at: 1 + rng.int(OPERATIONS) } as const }
            : { killAfter: rng.uniform() * trainingTime };
        const { code, signal, stderr } = await session(name, crashes < CRASHES ? trouble : {});
        expect(signal ?? code, stderr).toBe(signal === null ? 0 : 'SIGKILL');
        if (signal !== null) crashes++;
        expectWhole(name);
        ended = existsSync(join(runs, name)) && openRun(runs, name).status === 'done';
      }
      expect(outcome(openRun(runs, name))).toEqual(undisturbed);
    }
  },
  TIMEOUT,
);

test(
  'killed, and interrupted when it was resumed, a run ends with 130, says how to resume it, and ends then with the bytes of the run left alone',
  async () => {
    expect((await session('interrupted', { fault: { kind: 'kill', at: 60 } })).signal).toBe('SIGKILL');
    expect(openRun(runs, 'interrupted').metrics().length).toBeGreaterThan(7); // an epoch and its row
    const { code, stdout } = await session('interrupted', { fault: { kind: 'interrupt', at: 40 } });
    expect(code).toBe(130);
    expect(stdout).toContain('--resume=interrupted');
    expect(openRun(runs, 'interrupted').record.status).toBe('interrupted');
    expect((await session('interrupted')).code).toBe(0);
    expect(outcome(openRun(runs, 'interrupted'))).toEqual(undisturbed);
  },
  TIMEOUT,
);

test(
  'killed between its last checkpoint and its record of it, a run ends with a record that is true',
  async () => {
    cpSync(join(runs, 'undisturbed'), join(runs, 'late'), { recursive: true });
    openRun(runs, 'late').update({
      name: 'late',
      status: 'interrupted',
      result: null,
      files: { 'checkpoint-last.safetensors': '0'.repeat(64) },
    });
    expect((await session('late')).code).toBe(0);
    expect(outcome(openRun(runs, 'late'))).toEqual(undisturbed);
  },
  TIMEOUT,
);

test(
  'killed before it has a name, a run is none, and the next one cleans up',
  async () => {
    const kill = (at: number): Promise<Session> => session('nameless', { fault: { kind: 'kill', at } });
    const hidden = (): string[] => readdirSync(runs).filter(name => name.startsWith('.'));
    await kill(2); // while it writes its first file
    expect(hidden()).toHaveLength(1);
    expectWhole('nameless');
    expect(existsSync(join(runs, 'nameless'))).toBe(false);
    await kill(20);
    expect(hidden()).toEqual([]);
    expect(openRun(runs, 'nameless').status).toBe('interrupted');
  },
  TIMEOUT,
);

test(
  'a full disk stops a run with a sentence, leaves the last checkpoint as it was, and the run resumes when there is room',
  async () => {
    const rng = random('full');
    const stop = async (trouble: Trouble): Promise<string> => {
      const { code, stderr } = await session('full', trouble);
      expect(code, stderr).toBe(1);
      expect(stderr).toMatch(/: (the disk is full|a file may not become so large here)\./);
      expect(stderr).not.toMatch(/^\s+at /m);
      expectWhole('full');
      return stderr;
    };
    await stop({ fault: { kind: 'full', at: 2 } }); // at its first file
    expect(existsSync(join(runs, 'full'))).toBe(false);
    await stop({ fault: { kind: 'full', at: 50 + rng.int(OPERATIONS / 2) } }); // after its first checkpoint

    // Here the system itself refuses: there is room for the weights, but none for the state of training.
    const { lastCheckpoint, folder } = openRun(runs, 'full');
    const before = sha256(lastCheckpoint);
    expect(await stop({ limit: 200 })).toContain('checkpoint-last.safetensors, after step');
    expect(sha256(lastCheckpoint)).toBe(before);
    expect(readdirSync(folder).filter(name => name.endsWith('.tmp'))).toEqual([]);
    expect(openRun(runs, 'full').record.status).toBe('failed');

    expect((await session('full')).code).toBe(0);
    expect(outcome(openRun(runs, 'full'))).toEqual(undisturbed);
  },
  TIMEOUT,
);
