import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
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
  expect((await run('const own = 2; console.log({ size, own, nested: { count } });')).stdout).toBe(
    '{ size: 3, own: 2, nested: { count: 1 } }\n',
  );
  expect((await run('const within = (size: string) => ({ size }); console.log(within("local"));')).stdout).toBe(
    "{ size: 'local' }\n",
  );
  expect((await run('({ count } = { count: 5 }); console.log({ count });')).stdout).toBe('{ count: 5 }\n');
});

describe('names of earlier cells', () => {
  beforeAll(() =>
    run(`
    const recipe = { batch: 3, deep: { batch: 4, list: [1, 2, 3] }, time: { value: 7 } };
    let batch = 100, deep = 0;
    enum Kind { A, B = 5 }
    interface Sized { batch: number }
    type Recipe = typeof recipe;`),
  );

  // In each of these `batch`, `deep`, `time` or `value` names a property, and a variable of an earlier cell too.
  test.each([
    ['renamed', 'const { batch: a1 } = recipe; a1', '3'],
    [
      'renamed to the name of another',
      'const within = () => { const { batch: deep } = recipe; return deep }; within()',
      '3',
    ],
    [
      'nested, with a rest',
      'const { deep: { batch: a2, list: [head, ...tail] }, ...others } = recipe; [a2, head, tail, Object.keys(others)]',
      "[ 4, 1, [ 2, 3 ], [ 'batch', 'time' ] ]",
    ],
    [
      'with a default',
      'const { batch: a3 = 5, deep: { batch: a4 } = recipe.deep }: Partial<Recipe> = {}; [a3, a4]',
      '[ 5, 4 ]',
    ],
    ['by a computed key', 'const name = "batch"; const { [name]: a5 } = recipe; a5', '3'],
    ['of an enum', 'const { B: five } = Kind; [five, Kind[5]]', "[ 5, 'B' ]"],
    ['of a parameter', 'const value = ({ time: { value } }: Recipe) => value; value(recipe)', '7'],
    [
      'of a parameter with a default of an earlier cell',
      'const or = ({ time: { value: v } = { value: deep } }: Partial<Recipe>) => v; or({})',
      '0',
    ],
    [
      'in for-of',
      'const seen: number[] = []; for (const { batch: n, deep: { batch } } of [recipe]) seen.push(n, batch); seen',
      '[ 3, 4 ]',
    ],
    ['in for await', 'let last = 0; for await (const { batch: n } of [Promise.resolve(recipe)]) last = n; last', '3'],
    ['in catch', 'let caught; try { throw recipe } catch ({ batch: n }: any) { caught = n } caught', '3'],
    [
      'in a generator',
      'function* count({ batch: n }: Sized) { for (let i = 0; i < n; i++) yield { batch: i } } [...count(recipe)].map(({ batch: n }) => n)',
      '[ 0, 1, 2 ]',
    ],
    ['in an assignment', '({ batch: deep } = recipe); deep', '3'],
    ['in an assignment by shorthand', '({ batch } = recipe); batch', '3'],
    ['in an assignment by shorthand with a default', '({ batch = 13 } = {} as Partial<Recipe>); batch', '13'],
    ['in an assignment to a property', 'const box = { c: 0 }; ({ batch: box.c } = recipe); box', '{ c: 3 }'],
    ['as a swap', '[batch, deep] = [1, 2]; [batch, deep] = [deep, batch]; [batch, deep]', '[ 2, 1 ]'],
    ['in the head of a loop', 'for ({ batch } of [{ batch: 77 }]); batch', '77'],
    ['as a label', 'batch: for (;;) { for (;;) break batch } batch', '77'],
    [
      'in a class',
      'class Trial implements Sized { batch = batch; static deep = recipe.deep.batch; get time() { return this.batch } } [new Trial().time, Trial.deep]',
      '[ 77, 4 ]',
    ],
    [
      'as a private parameter property',
      'new (class { constructor(readonly batch: number) {} twice() { return 2 * this.batch + 0 * batch } })(4).twice()',
      '8',
    ],
    [
      'in a literal',
      'const own: Sized & Record<string, number> = { batch, deep: batch, [batch]: 1 }; own',
      "{ '77': 1, batch: 77, deep: 77 }",
    ],
    [
      'as a type',
      'const typed: Recipe["deep"] & { kind?: Kind } = { ...recipe.deep }; const same: typeof batch = typed.batch; same',
      '4',
    ],
  ])('as names of properties: %s', async (_name, code, result) => {
    expect(await run(code)).toMatchObject({ errors: [], result });
  });

  test('are called as functions, not as methods', async () => {
    await run(
      'function self(this: unknown) { return this === undefined || this === globalThis } const tag = (s: TemplateStringsArray, ...n: number[]) => s.raw.join("|") + n;',
    );
    expect((await run('[self(), tag`a${3}b`]')).result).toBe("[ true, 'a|b3' ]");
  });

  test('may be hidden by parameters, also by those named as what the kernel adds', async () => {
    await run('const outer = 1;');
    expect(
      (
        await run(
          '((exports: number, outer: number) => exports + outer)(2, 3) + ((exports: number) => exports + outer)(2)',
        )
      ).result,
    ).toBe('8');
  });
});

describe('variables', () => {
  test('are one for all cells: functions see what a later cell assigns, and it sees what they assign', async () => {
    await run('let n = 0, [m] = [5]; const next = () => ++n; function both() { return [n, m] }');
    expect((await run('n = 10; m *= 2; next(); n')).result).toBe('11');
    expect((await run('both()')).result).toBe('[ 11, 10 ]');
  });

  test('declared anew are new ones; functions of the earlier cell keep theirs', async () => {
    expect((await run('let n = "text"; const was = both(); [n, was]')).result).toBe("[ 'text', [ 11, 10 ] ]");
    expect((await run('n += "!"; const m = 1; [n, next(), both()]')).result).toBe("[ 'text!', 12, [ 12, 10 ] ]");
    expect((await run('import { sep as n } from "node:path"; both()')).result).toBe('[ 12, 10 ]');
  });

  test('of a cell that runs again begin again', async () => {
    const cell =
      'let runs = 0; const { a: again = 1 }: { a?: number } = {}; class Counter { n = runs } enum E { X } runs += again; [runs, new Counter().n, E.X]';
    expect((await run(cell)).result).toBe('[ 1, 1, 0 ]');
    expect((await run(cell)).result).toBe('[ 1, 1, 0 ]');
  });

  test('may have the names that a module gets, as programs in ES modules declare them', async () => {
    const cell = `#!/usr/bin/env node
      import { createRequire } from 'node:module';
      import { fileURLToPath } from 'node:url';
      const require = createRequire(import.meta.url);
      const __filename = fileURLToPath(import.meta.url);
      export const exports = { of: [require('node:path').basename(__filename)] };
      exports`;
    expect((await run(cell)).result).toBe("{ of: [ 'cell.ts' ] }");
    expect(
      (await run("import { sep } from 'node:path'; [sep, typeof require.resolve, exports.of.length]")).result,
    ).toBe("[ '/', 'function', 1 ]");
  });

  test('may be marked as exported, as in a module', async () => {
    expect(
      (
        await run(
          'export const one = 1; export let two = 2; export type T = number; export enum Side { L, R }\nexport function add(x: T): T { return one + x }\nadd(two)',
        )
      ).result,
    ).toBe('3');
    expect((await run('two = 5; const typed: T = add(two); [typed, Side.R]')).result).toBe('[ 6, 1 ]');
    const elsewhere =
      "export * from './lib/util/text'; export { counted as c } from './lib/util/text'; export { one }; one";
    expect((await run(elsewhere)).result).toBe('1');
    expect(
      (await run('export const { one: uno } = { one: 7 };\n  export class Late extends Missing {}')).errors[0].evalue,
    ).toMatch(/^cell\[\d+\]:2:29 TS/);
  });
});

test('a type error with reasons is shown at its place in the module that has it', async () => {
  writeFileSync(
    MODULE,
    "\n\nexport const wrong: { a: number } = Math.random() > 2 ? { a: 1 } : JSON.parse('1') as { a: string };\n",
  );
  const { errors } = await run('import { wrong } from "./datasets/misfit"; console.log(wrong);');
  expect(errors[0].evalue).toMatch(/^datasets\/misfit\.ts:3:14 TS2322/);
});
