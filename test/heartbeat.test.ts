import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { writeReport } from '../lib/report/runReport';
import { claimRun } from '../lib/runs/claim';
import { consoleReporter } from '../lib/runs/console';
import { silenceOf, TakenOverError } from '../lib/runs/heartbeat';
import { openRun, type Run } from '../lib/runs/store';
import { resumeTrial, type TrialOptions } from '../lib/runs/trial';
import { findTrial, runTrial } from '../lib/runs/trialFile';
import { type Owner, thisProcess } from '../lib/util/owner';
import { threadsPerOp } from '../lib/util/threads';
import { sha256, tinyRecipe } from './training';

const folder = mkdtempSync(join(tmpdir(), 'heartbeat-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A process of a machine of which nothing can be known. */
const elsewhere: Owner = { host: 'other', pid: 1, since: '1', place: { host: 'a', boot: 'b', namespace: 'c' } };

const reporter = consoleReporter({ write: () => true });
const train = (runs: string, options: Partial<TrialOptions> = {}): Promise<Run> =>
  runTrial({ recipe: tinyRecipe(), dataOptions: {}, threads: threadsPerOp() }, runs, {
    reporter,
    writeReport,
    ...options,
  });

test('a process that lost its run to another writes nothing more, and the other ends at the bytes of an undisturbed run', async () => {
  const undisturbed = await train(join(folder, 'undisturbed'));
  const runs = join(folder, 'taken');
  const { name } = undisturbed.record;
  const take = (): void => openRun(runs, name).update({ owner: elsewhere });
  const taken = train(runs, {
    reporter: { ...reporter, step: ({ step }) => void (step === 3 && take()) },
  });
  await expect(taken).rejects.toThrow(TakenOverError);
  const run = findTrial(runs, name)!;
  expect(run.record).toMatchObject({ status: 'running', owner: elsewhere });
  expect(run.metrics().filter(({ kind }) => kind === 'step')).toHaveLength(3);

  await expect(resumeTrial(run, { reporter, writeReport })).rejects.toThrow('other');
  const resumed = await resumeTrial(run, { reporter, writeReport, force: true });
  expect(resumed.status).toBe('done');
  expect(sha256(resumed.lastCheckpoint)).toBe(sha256(undisturbed.lastCheckpoint));
  resumed.update({ status: 'running', owner: thisProcess() }); // which is alive
  await expect(resumeTrial(resumed, { reporter, writeReport, force: true })).rejects.toThrow('still running');
});

test('who gives a sign of life is not silent, and of those who wait one gets the run', async () => {
  const run = openRun(join(folder, 'undisturbed'), (await train(join(folder, 'undisturbed'))).record.name);
  run.update({ status: 'running', owner: elsewhere });
  const LIMIT = 300;
  const silence = silenceOf(run, LIMIT);
  for (let i = 0; i < 4; i++) {
    writeFileSync(join(run.folder, '.alive'), String(i));
    expect(silence()).toBeUndefined();
    await sleep(LIMIT / 3);
  }
  await sleep(LIMIT);
  expect(silence()).toBe(0);

  symlinkSync(JSON.stringify(elsewhere), join(run.folder, '.claim-0-1'));
  expect(silence()).toBeUndefined(); // another one took it, and is given its time
  expect(claimRun(run, 0)).toBeUndefined();
  await sleep(LIMIT + 50);
  expect(silence()).toBe(1);
  expect(claimRun(run, 1)).toBeTypeOf('function');
  expect(claimRun(run, 1)).toBeUndefined();
});
