import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { startTrialProcess } from '../lib/cli/support/trialProcess';
import { writeReport } from '../lib/report/runReport';
import { DISK_FULL, localBackend } from '../lib/runs/backends/local';
import { consoleReporter } from '../lib/runs/console';
import { type Environment, environment } from '../lib/runs/environment';
import { budgetDigest, configurationDigest, trialIdentity } from '../lib/runs/identity';
import { listRuns, openRun } from '../lib/runs/store';
import { planSweep, resolveSweep, runSweep, type Sweep, type SweepOptions, type SweepPlan } from '../lib/runs/sweep';
import { findTrial, readTrialFile, runTrial } from '../lib/runs/trialFile';
import { planTraining } from '../lib/train/plan';
import { type Recipe, resolveRecipe } from '../lib/train/recipe';
import { Failure, UserError } from '../lib/util/errors';
import { dataset, tinyPlan, tinyRecipe } from './training';

/** Processes that each load the engine, on a machine that may be busy with others. */
const TIMEOUT = 400_000;

const folder = mkdtempSync(join(tmpdir(), 'sweep-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe("a trial's name", () => {
  const setup = { ...environment(), code: 'c', threads: 1 };
  const name = (changes: Parameters<typeof tinyRecipe>[0], other = setup, pictures = dataset) =>
    trialIdentity(planTraining(tinyRecipe(changes), pictures), other).name;

  test('is made of all that decides its outcome', () => {
    const names = [
      name({}),
      name({ seed: 1 }),
      name({ lr: 1 }),
      name({ ablation: 'noLocalProp' }),
      name({ size: 64 }),
      name({}, { ...setup, numerics: setup.numerics + 1 }),
      name({}, { ...setup, engine: 'another' }),
      name({}, setup, { ...dataset, fingerprint: 'other' }),
    ];
    expect(new Set(names).size).toBe(names.length);
    expect(name({ data: 'folder:elsewhere' })).toBe(names[0]);
    if (setup.kernels === 'own') expect(name({}, { ...setup, code: 'd', threads: 2, cpu: 'another' })).toBe(names[0]);
  });

  test('is one for one network, in whatever words it is asked for', () => {
    const plan = (changes: object) =>
      planTraining(
        resolveRecipe({ model: 'edgevit-xxs', data: 'petals', size: 64, epochs: 1, batch: 4, lr: 1e-3, ...changes }),
        dataset,
      );
    const [ablation, settings] = [
      plan({ ablation: 'fullAttention' }),
      plan({ modelSettings: { sampleRates: [1, 1, 1, 1] } }),
    ];
    expect(trialIdentity(settings, setup)).toEqual(trialIdentity(ablation, setup));
    expect(configurationDigest(settings)).toBe(configurationDigest(ablation));
    expect(trialIdentity(settings, setup).name).toMatch(/^edgevit-xxs-fullAttention-petals-64-s0-[0-9a-f]{12}$/);
  });
});

test('a key stands for what differs from the defaults: a setting that is added later renames nothing', () => {
  const digest = (recipe: Recipe) => configurationDigest(planTraining(recipe, dataset));
  const recipe = tinyRecipe();
  const added = { ...recipe, later: 1 } as typeof recipe;
  const before = digest(recipe);
  expect(digest(added)).not.toBe(before);
  const { later: _, ...without } = added as typeof recipe & { later: number };
  expect(digest(without)).toBe(before);
  expect(digest(tinyRecipe({ beta1: 0.9, epsilon: 1e-8 }))).toBe(before);
  const shared = { sampleRates: '2,2,1,1' };
  const budgets = [{}, { delegate: 'topleft' }, shared].map(settings => budgetDigest(tinyPlan(), [], settings));
  expect(budgets[1]).toBe(budgets[0]);
  expect(budgets[2]).not.toBe(budgets[0]);
});

describe('a sweep', () => {
  const sweep: Sweep = {
    base: tinyRecipe(),
    variants: { full: {}, nearest: { ablation: 'localPropNearest' }, bad: { maxLoss: 1e-6 } },
    seeds: [0],
    varied: ['ablation', 'maxLoss'],
  };
  const [first, second] = [join(folder, 'first'), join(folder, 'second')];
  const plan = (runs: string, variants = sweep.variants): SweepPlan =>
    planSweep(resolveSweep({ ...sweep, variants }), dataset, { runs, threads: 1 });
  const options = (runs: string, jobs: number): SweepOptions => ({
    backend: localBackend({ jobs, launch: (path, log) => startTrialProcess(path, runs, log) }),
    signal: new AbortController().signal,
    onChange() {},
  });

  test(
    'continues past a trial that fails, and trains what is done no second time',
    async () => {
      const fresh = plan(first);
      expect(listRuns(first)).toEqual([]);
      await runSweep(fresh, options(first, 2));
      expect(fresh.trials.map(({ variant, state }) => [variant, state])).toEqual([
        ['full', 'done'],
        ['nearest', 'done'],
        ['bad', 'failed'],
      ]);
      expect(fresh.trials[2].error).toContain('diverged');
      expect(openRun(first, fresh.trials[2].name).status).toBe('failed');

      const again = plan(first);
      expect(again.trials.map(({ known }) => known)).toEqual([true, true, false]);
      expect(again.trials.map(({ row }) => row)).toEqual(fresh.trials.map(({ row }) => row));
    },
    TIMEOUT,
  );

  test('takes no run for a done trial that says one thing in two ways, or is another trial', () => {
    const runs = join(folder, 'altered');
    cpSync(first, runs, { recursive: true });
    const path = join(runs, plan(first).trials[0].name, 'run.json');
    const record = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify({ ...record, result: { ...record.result, top1: 0.99 } }));
    expect(() => plan(runs)).toThrow(/contradicts itself.*top1/);
    writeFileSync(path, JSON.stringify({ ...record, trial: null }));
    expect(() => plan(runs)).toThrow(/is another one/);
    writeFileSync(path, JSON.stringify(record));
    expect(plan(runs).trials[0].state).toBe('done');
  });

  test('after a change trains again what it touches, and nothing else', () => {
    const known = (changed: Sweep, other: Partial<Environment> = {}, threads = 1) =>
      planSweep(resolveSweep(changed), dataset, {
        runs: first,
        threads,
        surroundings: { ...environment(), ...other },
      }).trials.map(trial => trial.known);
    expect(
      known({
        ...sweep,
        variants: { ...sweep.variants, nearest: { ablation: 'localPropNearest', lr: 0.1 }, more: { ema: 0 } },
      }),
    ).toEqual([true, false, false, false]);
    expect(known({ ...sweep, base: { ...sweep.base, augment: {} } })).toEqual([false, false, false]);
    for (const other of [{ numerics: 99 }, { engine: 'pure JavaScript' }, { variables: 'TF_ENABLE_ONEDNN_OPTS=0' }])
      expect(known(sweep, other)).toEqual([false, false, false]);
    expect(known(sweep, { git: null, lab: 'other', code: 'other' })).toEqual([true, true, false]);
    if (environment().kernels === 'own') expect(known(sweep, { cpu: 'another' }, 2)).toEqual([true, true, false]);
  });

  test(
    'killed resumes within the trial, to the bytes that two at once gave',
    async () => {
      const { bad: _, ...good } = sweep.variants;
      const killed = plan(second, good);
      // The first trial is killed at an operation on its files in its second epoch.
      const launch = (path: string, log: string): ReturnType<typeof startTrialProcess> => {
        if (!path.includes(killed.trials[0].name)) return startTrialProcess(path, second, log);
        return withEnvironment(
          {
            NODE_OPTIONS: `--require ${join(__dirname, 'fault.cjs')}`,
            FAULT: 'kill',
            FAULT_AT: '41',
            FAULT_FOLDER: second,
          },
          () => startTrialProcess(path, second, log),
        );
      };
      await runSweep(killed, { ...options(second, 1), backend: localBackend({ jobs: 1, retries: 0, launch }) });
      const [trial] = killed.trials;
      expect(trial).toMatchObject({ state: 'failed', error: expect.stringContaining('SIGKILL') });
      expect(openRun(second, trial.name).status).toBe('interrupted');
      expect(killed.trials[1].state).toBe('done');

      const resumed = plan(second, good);
      await runSweep(resumed, options(second, 1));
      expect(openRun(second, trial.name).record.resumedAt).toEqual([6]);
      const rows = ({ trials }: SweepPlan) => trials.map(({ row }) => row && { ...row, imagesPerSecond: null });
      expect(rows(resumed)).toEqual(rows(plan(first, good)));
    },
    TIMEOUT,
  );
});

describe('trials in processes of this machine', () => {
  const tasks = ['a', 'b', 'c'].map(name => ({ name, file: join(folder, `${name}.json`) }));
  /** Runs JavaScript for each trial, which finds its name and the number of the attempt in its arguments. */
  const run = async (script: string, options: { jobs?: number; retries?: number } = {}, onEnd = () => {}) => {
    const attempts = new Map<string, number>();
    const ended: Record<string, string> = {};
    const began: string[] = [];
    const backend = localBackend({
      jobs: 1,
      ...options,
      launch(file) {
        const name = basename(file, '.json');
        attempts.set(name, (attempts.get(name) ?? 0) + 1);
        const args = ['-e', script, name, String(attempts.get(name))];
        return spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
      },
    });
    const progress = {
      began: ({ name }: { name: string }) => void began.push(name),
      noted: () => {},
      ended: ({ name }: { name: string }, why: string) => {
        ended[name] = why;
        onEnd();
      },
    };
    const failure = await backend.run(tasks, progress, new AbortController().signal).then(
      () => undefined,
      (error: unknown) => error,
    );
    return { attempts: Object.fromEntries(attempts), ended, began, failure };
  };
  const KILLED = "if (process.argv[1] === 'b' && process.argv[2] <= N) process.kill(process.pid, 'SIGKILL')";

  test('are tried again where they were killed, and fail where that was so each time', async () => {
    expect(await run(KILLED.replace('N', '1'))).toMatchObject({ attempts: { a: 1, b: 2, c: 1 }, failure: undefined });
    const never = await run(KILLED.replace('N', '9'), { retries: 2 });
    expect(never.attempts).toEqual({ a: 1, b: 3, c: 1 });
    expect(never.ended.b).toContain('SIGKILL 3 times');
    expect((await run(KILLED.replace('N', '1'), { retries: 0 })).attempts.b).toBe(1);
  });

  test('are not tried again where they failed, and what they said is in their logs', async () => {
    const { attempts, ended } = await run("console.error('why ' + process.argv[1]); process.exitCode = 1");
    expect(attempts).toEqual({ a: 1, b: 1, c: 1 });
    expect(ended.c).toContain('why c');
    expect(readFileSync(join(folder, 'c.log'), 'utf8')).toBe('why c\n');
  });

  test('stop all where the disk is full', async () => {
    const full = `process.send(${JSON.stringify(DISK_FULL)}, () => { process.exitCode = 1; process.disconnect(); })`;
    const { began, failure } = await run(`if (process.argv[1] === 'b') ${full}; else process.disconnect()`);
    expect(failure).toBeInstanceOf(Failure);
    expect(began).toEqual(['a', 'b']);
    const wait = "process.argv[1] === 'a' ? process.disconnect() : setInterval(() => {}, 1000)";
    const rows = await run(wait, { jobs: 2 }, () => {
      throw new Error('no room for rows');
    });
    expect(rows.failure).toMatchObject({ message: 'no room for rows' }); // and the other one was ended
  });
});

/** What a process is started with, beside what this one has. */
function withEnvironment<T>(variables: Record<string, string>, start: () => T): T {
  const before = { ...process.env };
  Object.assign(process.env, variables);
  try {
    return start();
  } finally {
    for (const name of Object.keys(variables)) delete process.env[name];
    Object.assign(process.env, before);
  }
}

describe('a trial file', () => {
  const path = join(folder, 'trial.json');
  const write = (value: unknown): string => {
    writeFileSync(path, JSON.stringify(value));
    return path;
  };

  test.each<[string, unknown]>([
    ['without a recipe', {}],
    ['with another key', { recipe: tinyRecipe(), thread: 1 }],
    ['with no threads', { recipe: tinyRecipe(), threads: 0 }],
    ['with a recipe that cannot be', { recipe: { ...tinyRecipe(), size: 33 } }],
    ['with another kind of value', []],
  ])('%s is refused', (_what, value) => {
    expect(() => readTrialFile(write(value))).toThrow(UserError);
  });

  test('that is none is refused', () => {
    expect(() => readTrialFile(join(folder, 'none.json'))).toThrow(UserError);
    writeFileSync(path, '{');
    expect(() => readTrialFile(path)).toThrow(UserError);
  });

  test('of another name than it has here is refused', async () => {
    const file = readTrialFile(write({ name: 'edgevit-xxs-petals-32-s0-000000000000', recipe: tinyRecipe() }));
    await expect(
      runTrial(file, folder, { reporter: consoleReporter({ write: () => true }), writeReport }),
    ).rejects.toThrow(UserError);
  });

  test('makes a folder with its last weights alone', async () => {
    const { recipe } = readTrialFile(write({ recipe: tinyRecipe({ epochs: 1 }) }));
    const run = await runTrial({ recipe, dataOptions: {} }, folder, {
      reporter: consoleReporter({ write: () => true }),
      writeReport,
    });
    expect(findTrial(folder, run.record.name)!.record).toMatchObject({
      status: 'done',
      files: { 'checkpoint-last.safetensors': expect.any(String) },
    });
    expect(Object.keys(run.record.files).filter(name => name.endsWith('.safetensors'))).toHaveLength(1);
    expect(run.alteredFiles()).toEqual([]);
    expect(readFileSync(run.lastCheckpoint, 'latin1')).not.toContain('optimizer.');
  });
});
