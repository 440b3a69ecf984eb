import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { isNative } from '../lib/tensor/tf';
import { createTrainer } from '../lib/train/trainer';
import { tinyPlan } from './training';

const folder = mkdtempSync(join(tmpdir(), 'pureJs-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('the pure-JS engine trains, and resumes to the byte', async () => {
  expect(isNative()).toBe(false);
  const checkpoint = join(folder, 'checkpoint.safetensors');
  const plan = tinyPlan({ epochs: 1, batch: 8 });
  const train = async ({ resume, stopAt }: { resume?: string; stopAt?: number } = {}): Promise<string> => {
    const training = createTrainer(plan, { resume });
    for await (const event of training.events()) if (event.step === stopAt) break;
    training.save(checkpoint);
    const digest = training.digest();
    training.dispose();
    return digest;
  };
  const whole = await train();
  expect(await train({ stopAt: 1 })).not.toBe(whole);
  expect(await train({ resume: checkpoint })).toBe(whole);
});
