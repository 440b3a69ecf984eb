import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { trialCommand } from '../../lib/cli/support/trialProcess';
import { slurmBackend } from '../../lib/runs/backends/slurm';
import { type SweepPlan, tasksOf } from '../../lib/runs/sweep';
import { random } from '../../lib/util/random';
import { missing, output } from './daemons';
import { NODES, SlurmCluster } from './slurmCluster';
import { CRASHES, expectSame, folder, place, plan, train, trainHere, writeImages } from './sweeps';

const why =
  process.getuid?.() === 0
    ? missing('slurmctld', 'slurmd', 'sbatch', 'squeue', 'scontrol', 'munged')
    : 'the daemons of Slurm need root';
const TIMEOUT = 200_000 + 60_000 * CRASHES;

/** Every task of this user, as `ARRAY_INDEX STATE`. */
const queue = (): string[][] =>
  output('squeue', ['--me', '-hr', '-o', '%F_%K %T'])
    .split('\n')
    .filter(Boolean)
    .map(line => line.split(' '));

describe.skipIf(why)(`a sweep on Slurm${why ? ` (${why})` : ''}`, () => {
  let cluster: SlurmCluster;
  let reference: SweepPlan;
  let trialMs: number;

  beforeAll(async () => {
    await writeImages();
    const began = performance.now();
    reference = await trainHere(folder('here'));
    trialMs = (performance.now() - began) / reference.trials.length;
    cluster = await SlurmCluster.start(folder('slurm'));
  }, TIMEOUT);
  afterAll(async () => {
    await cluster?.end();
    rmSync(place, { recursive: true, force: true });
  });

  const backend = ({ runs }: SweepPlan) =>
    slurmBackend({ name: 'lgl', runs, threads: 1, command: trialCommand(), partition: 'main', pollMs: 500 });

  /** What a cluster does to tasks, to the first that runs where one does. */
  const troubles: ((task: string | undefined) => Promise<void>)[] = [
    async () => {
      await cluster.endNode(NODES[0], 'SIGKILL');
      cluster.beginNode(NODES[0]);
    },
    async task => void (task && output('scontrol', ['requeue', task])), // as preemption does
    async task => void (task && output('scancel', ['--batch', '--signal=USR1', task])), // as the end of its time does
    async () => {
      await cluster.endController('SIGKILL');
      cluster.beginController();
    },
  ];

  test(
    `ends at the bytes of one job, also where ${CRASHES} times a daemon is killed, a task is preempted or its time is up`,
    async () => {
      const rng = random('slurm');
      for (let crashes = 0; crashes < CRASHES; ) {
        const sweep = await plan(folder(`slurm-${crashes}`));
        let over = false;
        const swept = train(sweep, backend(sweep)).finally(() => {
          over = true;
        });
        while (!over && crashes < CRASHES) {
          await Promise.race([swept, sleep(500 + 2 * rng.uniform() * trialMs)]);
          if (over) break;
          const [task] = queue().find(([, state]) => state === 'RUNNING') ?? [];
          await troubles[crashes % troubles.length](task);
          if (task) crashes++;
        }
        await swept;
        expectSame(sweep, reference);
      }
    },
    TIMEOUT,
  );

  test(
    'left by Ctrl-C is found again and handed over once; cancelled it is resumed by the same command',
    async () => {
      const sweep = await plan(folder('left'));
      const interrupt = new AbortController();
      const left = train(sweep, backend(sweep), interrupt.signal);
      await sleep(1500);
      interrupt.abort();
      await left;
      const tasks = queue();
      expect(tasks).toHaveLength(2);

      const again = new AbortController();
      const found = train(await plan(sweep.runs), backend(sweep), again.signal);
      await sleep(1500);
      again.abort();
      await found;
      expect(queue().map(([task]) => task)).toEqual(tasks.map(([task]) => task));

      await backend(sweep).cancel!(tasksOf(sweep));
      while (queue().length > 0) await sleep(200);
      const resumed = await plan(sweep.runs);
      await train(resumed, backend(resumed));
      expectSame(resumed, reference);
    },
    TIMEOUT,
  );

  test('is handed over by a script that a shell can read', async () => {
    const sweep = await plan(folder('script'));
    const script = slurmBackend({
      ...{ name: 'lgl', runs: sweep.runs, threads: 2, command: trialCommand() },
      ...{ partition: 'main', time: '02:00:00', arrayLimit: 1 },
    }).preview!(tasksOf(sweep));
    for (const option of [
      '--array=0-1%1',
      '--cpus-per-task=2',
      '--partition=main',
      '--time=02:00:00',
      '--requeue',
      '--signal=B:USR1@',
    ])
      expect(script).toContain(option);
    for (const { name } of sweep.trials) expect(script).toContain(name);
    output('bash', ['-n', '-c', script]);
  });
});
