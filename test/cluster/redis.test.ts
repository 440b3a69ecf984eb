import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { trialCommand } from '../../lib/cli/support/trialProcess';
import { writeReport } from '../../lib/report/runReport';
import { redisBackend } from '../../lib/runs/backends/redis';
import { environment } from '../../lib/runs/environment';
import { openRedis, PREFIX, queueName, unsuited } from '../../lib/runs/queue';
import { describeQueue, withoutWorkers } from '../../lib/runs/queueWorkers';
import { receiveTrial } from '../../lib/runs/received';
import { type SweepPlan, tasksOf } from '../../lib/runs/sweep';
import { findTrial } from '../../lib/runs/trialFile';
import { Failure, UserError } from '../../lib/util/errors';
import { random } from '../../lib/util/random';
import { ROOT } from '../../lib/util/root';
import { missing, stop, until } from './daemons';
import { RedisServer } from './redisServer';
import { allText, CRASHES, expectSame, folder, plan, train, trainHere, writeImages } from './sweeps';

const why = missing('redis-server');
const TIMEOUT = 200_000 + 60_000 * CRASHES;

if (why) console.log(`skipped: sweeps by Redis (${why})`);

describe.skipIf(why)(`a sweep by workers of Redis${why ? ` (${why})` : ''}`, () => {
  let server: RedisServer;
  let images: string;
  let reference: SweepPlan;
  let trialMs: number;
  const workers = new Set<ChildProcess>();
  const said: string[] = [];

  beforeAll(async () => {
    images = await writeImages(join(folder('redis-images'), 'flowers'));
    server = await RedisServer.start(folder('redis'));
    ({ sweep: reference, trialMs } = await trainHere(images));
  }, TIMEOUT);
  afterAll(async () => {
    await Promise.all([...workers].map(worker => stop(worker)));
    await server?.end();
  });

  /** The real command, in a process group of its own that can be killed as a whole. */
  const startWorker = (...options: string[]): ChildProcess => {
    const [node, ...words] = trialCommand().slice(0, -1);
    const env = { ...process.env, REDIS_URL: server.url };
    const child = spawn(node, [...words, 'worker', '--lock=2', ...options], {
      cwd: ROOT,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr])
      stream!.on('data', (data: Buffer) => void said.push(String(data)));
    workers.add(child);
    child.once('exit', () => workers.delete(child));
    return child;
  };
  const backend = (sweep: SweepPlan) =>
    redisBackend({
      url: server.url,
      runs: sweep.runs,
      environment: environment(),
      fingerprint: sweep.trials[0].plan.dataset.fingerprint,
      receive: (file, { name }) =>
        receiveTrial(
          file,
          { ...sweep.trials.find(trial => trial.name === name)!, dataOptions: sweep.dataOptions },
          sweep.runs,
          writeReport,
        ),
      say: line => said.push(line),
      pollMs: 200,
    });
  const inRedis = async <T>(work: (redis: Awaited<ReturnType<typeof openRedis>>) => Promise<T>): Promise<T> => {
    const redis = await openRedis(server.url, () => {});
    try {
      return await work(redis);
    } finally {
      redis.disconnect();
    }
  };

  test(
    `ends at the bytes of one job, also where ${CRASHES} times a worker or Redis is killed`,
    async () => {
      const rng = random('redis');
      for (let crashes = 0; crashes < CRASHES; ) {
        const runs = folder(`redis-${crashes}`);
        const sweep = await plan(runs, images);
        const team = [startWorker(`--runs=${runs}`), startWorker(`--runs=${runs}`)];
        let over = false;
        const swept = train(sweep, backend(sweep)).finally(() => {
          over = true;
        });
        while (!over && crashes < CRASHES) {
          await Promise.race([swept, sleep(4 * rng.uniform() * trialMs)]);
          if (over) break;
          const kind = crashes++ % 3;
          if (kind === 1) {
            await server.end('SIGKILL');
            await server.begin();
            continue;
          }
          const worker = team.shift()!;
          // With its trial, or alone: the trial then ends by itself.
          if (kind === 0) process.kill(-worker.pid!, 'SIGKILL');
          await stop(worker, 'SIGKILL');
          team.push(startWorker(`--runs=${runs}`));
        }
        await swept;
        await Promise.all(team.map(worker => stop(worker)));
        expectSame(sweep, reference);
        expect(allText(runs)).not.toContain(server.password);
      }
      await inRedis(async redis => {
        const queue = new Queue(queueName(environment()), { connection: redis, prefix: PREFIX });
        expect(await queue.getJobCounts()).toMatchObject({ waiting: 0, active: 0, completed: 0, failed: 0 });
      });
    },
    TIMEOUT,
  );

  test(
    'left by Ctrl-C is found again, and comes back from a worker without a disk in common, with images by their fingerprint',
    async () => {
      // What is left here of a job that is in no list.
      const sweep = await plan(folder('left'), images, ['full']);
      const queue = `${PREFIX}:${queueName(environment())}`;
      await inRedis(redis => redis.hset(`${queue}:${sweep.trials[0].name}`, { name: 'trial', data: '{}' }));
      const interrupt = new AbortController();
      const left = train(sweep, backend(sweep), interrupt.signal);
      await inRedis(redis => until('the job waits', async () => (await redis.llen(`${queue}:wait`)) === 1));
      interrupt.abort();
      await left;

      const elsewhere = folder('elsewhere');
      await writeImages(join(elsewhere, 'renamed'));
      const there = folder('apart-images');
      const apart = await plan(sweep.runs, await writeImages(join(there, 'flowers')), ['full']);
      const worker = startWorker(
        `--runs=${folder('apart-worker')}`,
        `--images=${elsewhere}`,
        `--cache-dir=${folder('other-cache')}`,
      );
      await train(apart, backend(apart));
      await stop(worker);
      expectSame(apart, reference);
    },
    TIMEOUT,
  );

  test(
    'a worker ends by one signal, also where Redis is away',
    async () => {
      const sweep = await plan(folder('away'), images, ['full'], 100_000);
      const interrupt = new AbortController();
      const swept = train(sweep, backend(sweep), interrupt.signal);
      const worker = startWorker(`--runs=${sweep.runs}`);
      await until('the trial runs', () => (findTrial(sweep.runs, sweep.trials[0].name)?.metrics().length ?? 0) > 0);
      await server.end();
      await stop(worker);
      expect(findTrial(sweep.runs, sweep.trials[0].name)!.status).toBe('interrupted');
      await server.begin();
      interrupt.abort();
      await swept;
      expect(await backend(sweep).cancel!(tasksOf(sweep))).toContain('1 job');
    },
    TIMEOUT,
  );

  test('says in what the workers that are there differ', async () => {
    const own = environment();
    const other = { ...own, libvips: '8.0.1' };
    await inRedis(async redis => {
      await describeQueue(redis, other);
      const worker = new Worker(queueName(other), async () => {}, { connection: redis, prefix: PREFIX });
      worker.on('error', () => {}); // its connection is closed first
      await worker.waitUntilReady();
      const lines = (await withoutWorkers(redis, 'here', own)).join('\n');
      expect(lines).toContain('8.0.1');
      expect(lines).not.toContain('processor');
      await worker.close();
    });
  });

  test('is refused by a Redis that may forget trials, is too old, keeps its password, or is not there', async () => {
    await inRedis(async redis => {
      await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
      await expect(openRedis(server.url, () => {})).rejects.toThrow(UserError);
      await redis.config('SET', 'maxmemory-policy', 'noeviction');
    });
    expect(unsuited('redis_version:6.0.16\r\nmaxmemory_policy:noeviction\r\n')).toContain('6.2');
    expect(unsuited('redis_version:6.2.0\r\nmaxmemory_policy:noeviction\r\n')).toBeUndefined();
    for (const url of [server.url.replace(server.password, 'wrong'), server.url.replace(`:${server.password}@`, '')]) {
      const refusal = openRedis(url, () => {});
      await expect(refusal).rejects.toThrow(Failure);
      await expect(refusal).rejects.not.toThrow('wrong@');
    }
    await expect(openRedis(`${server.url}/99`, () => {})).rejects.toThrow(Failure);
    await expect(openRedis(`${server.url}/first`, () => {})).rejects.toThrow(UserError);
    await server.end();
    await expect(openRedis(server.url, () => {})).rejects.toThrow(Failure);
    await server.begin();
  });

  test('is refused by what takes connections and never answers', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as { port: number };
    await expect(openRedis(`redis://127.0.0.1:${port}`, () => {})).rejects.toThrow(Failure);
    silent.close();
  });

  test('ends with a sentence where Redis is full, and continues when it is not', async () => {
    const sweep = await plan(folder('full'), images, ['full']);
    await inRedis(async redis => {
      await redis.config('SET', 'maxmemory', '1');
      await expect(train(sweep, backend(sweep))).rejects.toThrow(Failure);
      await redis.config('SET', 'maxmemory', '0');
    });
    const worker = startWorker(`--runs=${sweep.runs}`);
    await train(sweep, backend(sweep));
    await stop(worker);
    expectSame(sweep, reference);
  });

  test('never prints the password', () => {
    expect(said.length).toBeGreaterThan(0);
    expect(said.join('\n')).not.toContain(server.password);
  });
});
