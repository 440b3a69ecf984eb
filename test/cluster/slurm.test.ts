import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { trialCommand } from '../../lib/cli/support/trialProcess';
import { slurmBackend } from '../../lib/runs/backends/slurm';
import { type SweepPlan, tasksOf } from '../../lib/runs/sweep';
import { UserError } from '../../lib/util/errors';
import { random } from '../../lib/util/random';
import { missing, output, until } from './daemons';
import { NODES, SlurmCluster } from './slurmCluster';
import { CRASHES, expectSame, folder, plan, train, trainHere, writeImages } from './sweeps';

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
        const sweep = await plan(folder(`slurm-${crashes}`), images);
        let over = false;
        const swept = train(sweep, backend(sweep)).finally(() => {
          over = true;
        });
        while (!over && crashes < CRASHES) {
          await Promise.race([swept, sleep(4 * rng.uniform() * trialMs)]);
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
