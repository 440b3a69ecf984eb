import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { hasGraphs } from '../lib/engine/binding';
import { tf } from '../lib/tensor/tf';

/** Runs products.ts on one thread, which is the one that gets the signals: one every millisecond if asked. */
function products(disturbed: boolean): Promise<{ code: number | null; sum?: number; signals?: number }> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, ['--import', 'tsx', join(__dirname, 'products.ts')], {
      env: { ...process.env, TF_NUM_INTRAOP_THREADS: '1' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    let timer: NodeJS.Timeout | undefined;
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
      if (disturbed && !timer) timer = setInterval(() => child.kill('SIGUSR2'), 1);
    });
    child.on('close', code => {
      clearInterval(timer);
      resolve({
        code,
        ...(code === 0 ? (JSON.parse(output.trim().split('\n').pop()!) as { sum: number; signals: number }) : {}),
      });
    });
  });
}

// Handlers that ran on top of oneDNN's matmuls broke the heap: the process was aborted within a second.
test.skipIf(!hasGraphs())('signals during a computation change nothing', async () => {
  const [quiet, disturbed] = [await products(false), await products(true)];
  expect(disturbed).toMatchObject({ code: 0, sum: quiet.sum });
  expect(quiet.code).toBe(0);
  expect(disturbed.signals).toBeGreaterThan(20);
});

/** Blocked signals of this process's main thread, as the system counts them. */
const BLOCKED = `/proc/self/task/${process.pid}/status`;

test.skipIf(!hasGraphs() || !existsSync(BLOCKED))('signals wait while an op is computed by itself, too', async () => {
  const seen = new Int32Array(new SharedArrayBuffer(8)); // whether SIGINT was blocked, and whether to end
  const watcher = new Worker(
    `const { readFileSync } = require('node:fs');
     const { workerData: { path, seen }, parentPort } = require('node:worker_threads');
     parentPort.postMessage('watches');
     while (!Atomics.load(seen, 1))
       if (BigInt('0x' + /^SigBlk:\\s*(\\w+)/m.exec(readFileSync(path, 'utf8'))[1]) & 2n) Atomics.store(seen, 0, 1);`,
    { eval: true, workerData: { path: BLOCKED, seen } },
  );
  await once(watcher, 'message');
  const x = tf.ones([600, 600]);
  try {
    for (let i = 0; i < 200 && !Atomics.load(seen, 0); i++) tf.matMul(x, x).dispose();
    expect(Atomics.load(seen, 0)).toBe(1);
  } finally {
    Atomics.store(seen, 1, 1);
    await once(watcher, 'exit');
  }
});
