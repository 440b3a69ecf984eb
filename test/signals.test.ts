import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hasGraphs } from '../lib/engine/binding';

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
