import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startKernel } from './kernelHelper';

const MODULE = join(__dirname, '..', 'datasets', 'misfit.ts'); // where git and the compiler of the project do not look

let { kernel, run } = {} as Awaited<ReturnType<typeof startKernel>>;
beforeAll(async () => {
  ({ kernel, run } = await startKernel());
});
afterAll(async () => {
  rmSync(MODULE, { force: true });
  await kernel.stop();
});

test('a property written as a shorthand takes the variable of an earlier cell', async () => {
  await run('const size: number = 3; let count = 1;');
  expect((await run('const own = 2; console.log({ size, own, nested: { count } });')).stdout).toBe('{ size: 3, own: 2, nested: { count: 1 } }\n');
  expect((await run('const within = (size: string) => ({ size }); console.log(within("local"));')).stdout).toBe("{ size: 'local' }\n");
  expect((await run('({ count } = { count: 5 }); console.log({ count });')).stdout).toBe('{ count: 5 }\n');
});

test('a type error with reasons is shown at its place in the module that has it', async () => {
  writeFileSync(MODULE, "\n\nexport const wrong: { a: number } = Math.random() > 2 ? { a: 1 } : JSON.parse('1') as { a: string };\n");
  const { errors } = await run('import { wrong } from "./datasets/misfit"; console.log(wrong);');
  expect(errors[0].evalue).toMatch(/^datasets\/misfit\.ts:3:14 TS2322/);
});
