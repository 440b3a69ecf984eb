import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { trialCommand } from '../../lib/cli/support/trialProcess';
import { redisBackend } from '../../lib/runs/backends/redis';
import { environment } from '../../lib/runs/environment';
import { openRedis, PREFIX, queueName, unsuited } from '../../lib/runs/queue';
import { receiveTrial } from '../../lib/runs/received';
import type { SweepPlan } from '../../lib/runs/sweep';
import { Failure, UserError } from '../../lib/util/errors';
import { random } from '../../lib/util/random';
import { ROOT } from '../../lib/util/root';
import { missing, stop } from './daemons';
import { RedisServer } from './redisServer';
import {
  allText,
  CRASHES,
  ELSEWHERE,
  expectSame,
  folder,
  moveImages,
  place,
  plan,
  train,
  trainHere,
  writeImages,
} from './sweeps';

const why = missing('redis-server');
const TIMEOUT = 200_000 + 60_000 * CRASHES;

describe.skipIf(why)(`a sweep by workers of Redis${why ? ` (${why})` : ''}`, () => {
  let server: RedisServer;
  let reference: SweepPlan;
  let trialMs: number;
  const workers = new Set<ChildProcess>();
  const said: string[] = [];

  beforeAll(async () => {
    await writeImages();
    const began = performance.now();
    reference = await trainHere(folder('here'));
    trialMs = (performance.now() - began) / reference.trials.length;
    server = await RedisServer.start(folder('redis'));
  }, TIMEOUT);
  afterAll(async () => {
    await Promise.all([...workers].map(worker => stop(worker)));
    await server?.end();
    rmSync(place, { recursive: true, force: true });
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
        ),
      say: line => said.push(line),
      pollMs: 200,
    });

  test(
    `ends at the bytes of one job, also where ${CRASHES} times a worker or Redis is killed`,
    async () => {
      const rng = random('redis');
      for (let crashes = 0; crashes < CRASHES; ) {
        const runs = folder(`redis-${crashes}`);
        const sweep = await plan(runs);
        let worker = startWorker(`--runs=${runs}`);
        let over = false;
        const swept = train(sweep, backend(sweep)).finally(() => {
          over = true;
        });
        while (!over && crashes < CRASHES) {
          await Promise.race([swept, sleep(500 + 2 * rng.uniform() * trialMs)]);
          if (over) break;
          const kind = crashes++ % 3;
          if (kind === 1) {
            await server.end('SIGKILL');
            await server.begin();
            continue;
          }
          // With its trial, or alone: the trial then ends by itself.
          if (kind === 0) process.kill(-worker.pid!, 'SIGKILL');
          await stop(worker, 'SIGKILL');
          worker = startWorker(`--runs=${runs}`);
        }
        await swept;
        await stop(worker);
        expectSame(sweep, reference);
        expect(allText(runs)).not.toContain(server.password);
      }
      const redis = await openRedis(server.url, () => {});
      const queue = new Queue(queueName(environment()), { connection: redis, prefix: PREFIX });
      expect(await queue.getJobCounts()).toMatchObject({ waiting: 0, active: 0, completed: 0, failed: 0 });
      redis.disconnect();
    },
    TIMEOUT,
  );

  test(
    'left by Ctrl-C goes on, and is found again',
    async () => {
      const sweep = await plan(folder('left'), ['full']);
      const interrupt = new AbortController();
      const worker = startWorker(`--runs=${sweep.runs}`);
      const left = train(sweep, backend(sweep), interrupt.signal);
      await sleep(1000);
      interrupt.abort();
      await left;
      await train(sweep, backend(sweep));
      await stop(worker);
      expectSame(sweep, reference);
    },
    TIMEOUT,
  );

  test(
    'takes what a worker sends that has no disk in common, and images by their fingerprint',
    async () => {
      const sweep = await plan(folder('apart'), ['full']);
      moveImages();
      const worker = startWorker(
        `--runs=${folder('apart-worker')}`,
        `--images=${ELSEWHERE}`,
        `--cache-dir=${folder('other-cache')}`,
      );
      await train(sweep, backend(sweep));
      await stop(worker);
      expectSame(sweep, reference);
    },
    TIMEOUT,
  );

  test('is refused by a Redis that may forget trials, is too old, or keeps its password', async () => {
    const redis = await openRedis(server.url, () => {});
    await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
    await expect(openRedis(server.url, () => {})).rejects.toThrow(UserError);
    await redis.config('SET', 'maxmemory-policy', 'noeviction');
    redis.disconnect();
    expect(unsuited('redis_version:6.0.16\r\nmaxmemory_policy:noeviction\r\n')).toContain('6.2');
    for (const url of [server.url.replace(server.password, 'wrong'), server.url.replace(`:${server.password}@`, '')]) {
      const refusal = openRedis(url, () => {});
      await expect(refusal).rejects.toThrow(Failure);
      await expect(refusal).rejects.not.toThrow('wrong@');
    }
  });

  test('never prints the password', () => {
    expect(said.length).toBeGreaterThan(0);
    expect(said.join('\n')).not.toContain(server.password);
  });
});
