import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { trialCommand } from '../../lib/cli/support/trialProcess';
import { slurmBackend } from '../../lib/runs/backends/slurm';
import { ended } from '../../lib/runs/slurmQueue';
import { arrayScript } from '../../lib/runs/slurmScript';
import { type SweepPlan, tasksOf } from '../../lib/runs/sweep';
import { findTrial } from '../../lib/runs/trialFile';
import { UserError } from '../../lib/util/errors';
import { random } from '../../lib/util/random';
import { missing, output, stop, until } from './daemons';
import { NODES, SlurmCluster } from './slurmCluster';
import { CRASHES, expectSame, folder, plan, train, trainHere, writeImages } from './sweeps';

const why =
  process.getuid?.() === 0
    ? missing('slurmctld', 'slurmd', 'sbatch', 'squeue', 'scontrol', 'munged')
    : 'the daemons of Slurm need root';
const TIMEOUT = 200_000 + 60_000 * CRASHES;

/** Every task of a sweep here: `ARRAY_INDEX`, its state and its node. */
const queue = (): string[][] =>
  output('squeue', ['--me', '-hr', '-p', 'main', '-o', '%F_%K %T %N'])
    .split('\n')
    .filter(Boolean)
    .map(line => line.split(' '));

test("an end of a task is told by sacct's words", () => {
  // As sacct -nXP -o State of Slurm 22.05 prints them.
  for (const [answer, state] of [
    ['COMPLETED\n', 'COMPLETED'],
    ['CANCELLED by 0\n', 'CANCELLED'],
    ['OUT_OF_MEMORY\n', 'OUT_OF_MEMORY'],
    ['REQUEUED\n', undefined],
    ['RUNNING\n', undefined],
    ['sacct: error: Problem talking to the database: Connection refused\n', undefined],
    ['', undefined],
  ] as const)
    expect(ended(answer), answer).toBe(state);
});

test.each([
  ['ends with a checkpoint', "trap 'exit 130' TERM", true],
  ['is not yet there to hear of it', '', true],
  ['fails', "trap 'exit 1' TERM", false],
])('a task whose time is up and whose trial %s is queued again, or not', async (what, trap, again) => {
  const place = folder(what.replaceAll(' ', '-'));
  const [begun, asked] = ['begun', 'asked'].map(name => join(place, name));
  const programs = {
    scontrol: `[[ -e ${asked} ]]; away=$?; echo "$@" >>${asked}; exit $away`, // away when it is first asked
    sleep: 'true',
    trial: `${trap}\n>${begun}\nwhile :; do /bin/sleep 0.1; done`,
  };
  for (const [name, text] of Object.entries(programs))
    writeFileSync(join(place, name), `#!/bin/bash\n${text}\n`, { mode: 0o755 });
  const options = { name: 'lgl', runs: place, threads: 1, command: [join(place, 'trial')] };
  const env = { PATH: `${place}:${process.env.PATH}`, SLURM_ARRAY_JOB_ID: '7', SLURM_ARRAY_TASK_ID: '0' };
  const script = spawn('bash', ['-c', arrayScript(options, ['first'])], { env, stdio: 'ignore' });
  await until('the trial begins', () => existsSync(begun));
  await stop(script, 'SIGUSR1');
  const calls = existsSync(asked) ? readFileSync(asked, 'utf8').trim().split('\n') : [];
  expect(calls).toEqual(again ? ['requeue 7_0', 'requeue 7_0'] : []);
});

if (why) console.log(`skipped: sweeps on Slurm (${why})`);

describe.skipIf(why)(`a sweep on Slurm${why ? ` (${why})` : ''}`, () => {
  let cluster: SlurmCluster;
  let images: string;
  let reference: SweepPlan;
  let trialMs: number;
  const said: string[] = [];

  beforeAll(async () => {
    images = await writeImages(join(folder('slurm-images'), 'flowers'));
    cluster = await SlurmCluster.start(folder('slurm'));
    ({ sweep: reference, trialMs } = await trainHere(images));
  }, TIMEOUT);
  afterAll(() => cluster?.end());

  const backend = ({ runs }: SweepPlan, options: { time?: string; arrayLimit?: number } = {}) =>
    slurmBackend({
      ...{ name: 'lgl', runs, threads: 1, command: trialCommand(), partition: 'main', pollMs: 500, ...options },
      say: line => void said.push(line),
    });

  /** What a cluster does to tasks, to the first that runs where one does. */
  const troubles: ((task?: string, node?: string) => Promise<void>)[] = [
    async () => {
      await cluster.endNode(NODES[0], 'SIGKILL');
      cluster.beginNode(NODES[0]);
    },
    async (task, node) =>
      void (task && output('sbatch', ['-p', 'urgent', '-w', node!, '-o', '/dev/null', '--wrap=true'])), // preempts it
    async task => void (task && output('scancel', ['--batch', '--signal=USR1', task])), // as the end of its time does
    async () => {
      await cluster.endController('SIGKILL');
      cluster.beginController();
    },
    async task => void (task && output('scontrol', ['requeue', task])),
  ];

  test(
    `ends at the bytes of one job, also where ${CRASHES} times a daemon is killed, a task is preempted or its time is up`,
    async () => {
      const rng = random('slurm');
      const operator = setInterval(() => void cluster.mend(), 2_000);
      onTestFinished(() => clearInterval(operator));
      for (let crashes = 0; crashes < CRASHES; ) {
        const sweep = await plan(folder(`slurm-${crashes}`), images);
        let over = false;
        const swept = train(sweep, backend(sweep)).finally(() => {
          over = true;
        });
        while (!over && crashes < CRASHES) {
          await Promise.race([swept, sleep(4 * rng.uniform() * trialMs)]);
          if (over) break;
          const [task, , node] = queue().find(([, state]) => state === 'RUNNING') ?? [];
          await troubles[crashes % troubles.length](task, node);
          if (task) crashes++;
        }
        await swept;
        expectSame(sweep, reference);
      }
    },
    TIMEOUT,
  );

  test(
    'left by Ctrl-C is found again and handed over once; cancelled or forgotten it is resumed',
    async () => {
      const sweep = await plan(folder('slurm-left'), images, ['full']);
      const cutShort = async (each: SweepPlan): Promise<string[][]> => {
        const interrupt = new AbortController();
        const running = train(each, backend(each), interrupt.signal);
        await until('the task runs', () => queue().some(([, state]) => state === 'RUNNING'));
        interrupt.abort();
        await running;
        return queue();
      };
      const before = await cutShort(sweep);
      expect(before).toHaveLength(1);
      expect(await cutShort(await plan(sweep.runs, images, ['full']))).toEqual(before);

      await backend(sweep).cancel!(tasksOf(sweep));
      await until('nothing is queued', () => queue().length === 0);
      const resumed = await plan(sweep.runs, images, ['full']);
      const swept = train(resumed, backend(resumed));
      await until('the task is queued', () => queue().length === 1);
      await cluster.endController('SIGKILL');
      cluster.forgetJobs();
      cluster.beginController();
      await swept;
      expectSame(resumed, reference);
    },
    TIMEOUT,
  );

  test(
    'loses a whole node, whose task is trained elsewhere, and says what is held',
    async () => {
      const sweep = await plan(folder('slurm-node'), images);
      const swept = train(sweep, backend(sweep, { arrayLimit: 1 }));
      const find = (wanted: string): string[] | undefined => queue().find(([, state]) => state === wanted);
      await until('one task runs and one waits', () => find('RUNNING') !== undefined && find('PENDING') !== undefined);
      const [waiting] = find('PENDING')!;
      output('scontrol', ['hold', waiting]);
      await until('the hold is told', () => said.some(line => line.includes(`scontrol release ${waiting}`)));
      const [, , node] = find('RUNNING')!;
      await cluster.loseNode(node as (typeof NODES)[number]);
      output('scontrol', ['release', waiting]);
      await until('the node is down', async () => (await cluster.states()).some(state => state.startsWith('down')));
      await swept;
      expectSame(sweep, reference);
      cluster.beginNode(node as (typeof NODES)[number]);
    },
    TIMEOUT,
  );

  // Slurm counts time limits in minutes.
  test.skipIf(CRASHES <= 3)(
    'is queued again where its time is up, and resumes from its checkpoint',
    async () => {
      const sweep = await plan(folder('slurm-time'), images, ['full'], 100_000);
      const interrupt = new AbortController();
      const swept = train(sweep, backend(sweep, { time: '4' }), interrupt.signal);
      const resumed = () => findTrial(sweep.runs, sweep.trials[0].name)?.record.resumedAt ?? [];
      await until('the task is resumed', () => resumed().length > 0, 300);
      expect(resumed()[0]).toBeGreaterThan(0);
      interrupt.abort();
      await swept;
      await backend(sweep).cancel!(tasksOf(sweep));
      await until('nothing is queued', () => queue().length === 0);
    },
    TIMEOUT,
  );

  test('is handed over by a script that a shell can read', async () => {
    const sweep = await plan(folder('script'), images);
    const script = backend(sweep, { time: '02:00:00', arrayLimit: 1 }).preview!(tasksOf(sweep));
    for (const option of [
      '--array=0-1%1',
      '--cpus-per-task=1',
      '--partition=main',
      '--time=02:00:00',
      '--requeue',
      '--signal=B:USR1@',
    ])
      expect(script).toContain(option);
    for (const { name } of sweep.trials) expect(script).toContain(name);
    output('bash', ['-n', '-c', script]);
  });

  test('is refused where Slurm is not installed', async () => {
    const sweep = await plan(folder('nowhere'), images);
    const { PATH } = process.env;
    process.env.PATH = folder('nowhere');
    try {
      await expect(train(sweep, backend(sweep))).rejects.toThrow(UserError);
    } finally {
      process.env.PATH = PATH;
    }
  });
});
