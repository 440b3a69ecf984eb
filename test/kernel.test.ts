import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startKernel } from './kernelHelper';

// The kernel as Jupyter sees it: the real process, over zeromq. Each test stands for a defect of stock tslab, or for what must stay.

let { kernel, late, run } = {} as Awaited<ReturnType<typeof startKernel>>;
beforeAll(async () => {
  ({ kernel, late, run } = await startKernel());
});
afterAll(() => kernel.stop());

describe('cells', () => {
  test('share variables and types, and show the last value', async () => {
    await run('interface Point { x: number }\nconst point: Point = { x: 3 };\nlet total = 0;');
    expect((await run('total += point.x; total * 2')).result).toBe('6');
    expect((await run('const again: Point = { x: total }; again')).result).toBe('{ x: 3 }');
    expect((await run('const nothing = undefined')).result).toBeUndefined();
  });

  test('count from 1, announce their input, and leave no trace when silent', async () => {
    const first = await run('1');
    const second = await run('2');
    expect(second.count).toBe(Number(first.count) + 1);
    expect(second.messages[0].header.msg_type).toBe('execute_input');
    expect(second.messages[0].content).toEqual({ code: '2', execution_count: second.count });
    const silent = await run('3', { silent: true });
    expect(silent.messages).toEqual([]);
    expect((await run('4')).count).toBe(Number(second.count) + 1);
  });

  test('print 100,000 lines without losing one', async () => {
    const { stdout, status } = await run('for (let i = 0; i < 100_000; i++) console.log(`line ${i}`)');
    expect(status).toBe('ok');
    expect(stdout).toBe(Array.from({ length: 100_000 }, (_, i) => `line ${i}\n`).join(''));
  });

  test('keep the order of stdout and stderr', async () => {
    const { messages } = await run('console.log("a"); console.error("b"); console.log("c")');
    expect(messages.filter(m => m.header.msg_type === 'stream').map(m => m.content)).toEqual([
      { name: 'stdout', text: 'a\n' },
      { name: 'stderr', text: 'b\n' },
      { name: 'stdout', text: 'c\n' },
    ]);
  });

  test.each([
    ['await (x)', 'const f = async () => 5; const a = await (f()); a', '5'],
    ['await [x]', 'const b = await [1]; b', '[ 1 ]'],
    [
      'for await',
      'const seen: number[] = []; for await (const i of [1, Promise.resolve(2)]) seen.push(i); seen',
      '[ 1, 2 ]',
    ],
    ['await in a function only', 'const later = async () => { await null; return 7 }; later()', '7'],
    ['a template', 'const t = await `x`; t', "'x'"],
  ])('may wait at the top level: %s', async (_name, code, result) => {
    expect(await run(code)).toMatchObject({ status: 'ok', result, errors: [] });
  });

  test('end only when what they show has been shown', async () => {
    const { messages } = await run(
      'import { show } from "./lib/jupyter/display/display";\nshow({ mark: "point", data: { values: [{ a: 1 }] }, encoding: { x: { field: "a", type: "quantitative" } } });\nlet after = 1',
    );
    const [shown] = messages.filter(m => m.header.msg_type === 'display_data');
    expect(Object.keys(shown.content.data as object).sort()).toEqual([
      'application/vnd.vegalite.v5+json',
      'image/svg+xml',
      'text/plain',
    ]);
  });

  test("show by tslab's own interface too", async () => {
    const { messages } = await run('import { display } from "tslab"; display.html("<b>x</b>")');
    expect(messages.find(m => m.header.msg_type === 'display_data')!.content.data).toEqual({ 'text/html': '<b>x</b>' });
  });
});

describe('errors', () => {
  test('fail the cell by an error message with the place in the cell and no frame of the kernel', async () => {
    const { status, count, errors } = await run(
      'type Unused = string;\n\nfunction inner(n: number) {\n  throw new RangeError(`bad ${n}`);\n}\ninner(3)',
    );
    expect(status).toBe('error');
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ ename: 'RangeError', evalue: 'bad 3' });
    expect(errors[0].traceback.filter(line => line.startsWith('    at '))).toEqual([
      `    at inner (cell[${count}]:4:9)`,
      `    at cell[${count}]:6:1`,
    ]);
    expect(errors[0].traceback).toContain('> 4 |   throw new RangeError(`bad ${n}`);');
  });

  test('in lib point into its TypeScript', async () => {
    const { errors } = await run('import { oneOf } from "./lib/util/errors";\noneOf(null as unknown as string[])');
    expect(errors[0].traceback[1]).toMatch(/^ {4}at oneOf \(lib\/util\/errors\.ts:\d+:\d+\)$/);
  });

  test('of type are at the right line and column, also after an await at the start', async () => {
    const { status, errors } = await run('await (null);\n\nconst wrong: number = "text";');
    expect(status).toBe('error');
    expect(errors[0]).toMatchObject({
      ename: 'TypeScriptError',
      evalue: expect.stringMatching(/^cell\[\d+\]:3:7 TS2322: /),
    });
  });

  test('follow the strict rules of the project, and its module resolution', async () => {
    expect((await run('function implicit(x) { return x }')).errors[0].evalue).toContain('TS7006');
    expect(
      (await run('const maybe: string | undefined = process.env.NOTHING; maybe.length')).errors[0].evalue,
    ).toContain('TS18048');
    const { status } = await run('import { register } from "tsx/cjs/api"; const typed: () => unknown = register;'); // types behind `exports`
    expect(status).toBe('ok');
  });

  test('keep what the cell had set before it failed', async () => {
    expect((await run('const before = [1, 2];\nthrow new Error("stop")')).status).toBe('error');
    expect((await run('before.length')).result).toBe('2');
  });

  test('show their cause, and values that are no Error', async () => {
    const { errors } = await run('throw new Error("outer", { cause: new TypeError("inner") })');
    expect(errors[0].traceback).toContain('Caused by TypeError: inner');
    expect((await run('throw { code: 3 }')).errors[0]).toMatchObject({ evalue: '{ code: 3 }' });
  });

  test('of the background fail the cell', async () => {
    expect((await run('void Promise.reject(new Error("nobody waits"))')).errors[0]).toMatchObject({
      evalue: 'nobody waits',
    });
    expect(
      (
        await run(
          'setTimeout(() => { throw new Error("in a timer") }, 5); await new Promise(done => setTimeout(done, 50))',
        )
      ).errors[0],
    ).toMatchObject({ evalue: 'in a timer' });
  });

  test('of the background that come after the reply are sent all the same', async () => {
    late.length = 0;
    expect((await run('setTimeout(() => void Promise.reject(new Error("too late")), 100)')).status).toBe('ok');
    const told = () => late.map(m => [m.header.msg_type, m.content.evalue]);
    await expect.poll(told, { timeout: 60_000 }).toEqual([['error', 'too late']]);
  });

  test('stop the cells that were asked for already, unless the front end says otherwise', async () => {
    const abort = await Promise.all([
      run('throw new Error("first")'),
      run('1'),
      kernel.request('kernel_info_request'),
      run('2'),
    ]);
    expect(abort.map(({ status }) => status)).toEqual(['error', 'aborted', 'ok', 'aborted']);
    const go = await Promise.all([run('throw new Error("first")', { stop_on_error: false }), run('1'), run('2')]);
    expect(go.map(({ status }) => status)).toEqual(['error', 'ok', 'ok']);
    await run('throw new Error("alone")');
    expect((await run('3')).result).toBe('3'); // at once, not 200 ms later
  });
});

describe('interrupts', () => {
  // A cell says that it has begun when it counts for the first time: however slow the machine is, it is interrupted after that.
  beforeAll(() =>
    run(
      'let count = 0; const tick = () => (count++ === 0 && console.log("begun"), count); const pause = (ms: number) => new Promise(done => setTimeout(done, ms));',
    ),
  );

  /** Interrupts the cell when it has begun. */
  async function interrupt(
    code: string,
    how: () => unknown = () => kernel.interrupt(),
  ): Promise<Awaited<ReturnType<typeof run>>> {
    let begun = false;
    const done = run(`count = 0;\n${code}`, {}, ({ header }) => (begun ||= header.msg_type === 'stream'));
    await expect.poll(() => begun, { timeout: 60_000 }).toBe(true);
    await how();
    const ran = await done;
    expect((await run('count > 0')).result).toBe('true'); // the state is kept
    return ran;
  }

  test.each([
    ['a loop', 'while (true) tick()'],
    ['a loop after a wait', 'await null; while (true) tick()'],
    ['a loop in a callback', 'await new Promise(() => setTimeout(() => { while (true) tick() }, 1))'],
    ['waits without a pause', 'while (true) { tick(); await null }'],
    ['a wait without end', 'tick(); await new Promise(() => {})'],
  ])('end %s', async (_name, code) => {
    const { status, errors } = await interrupt(code);
    expect(status).toBe('error');
    expect(errors[0].ename).toBe('Interrupted');
  });

  test('run the finally blocks of a cell that waits, and nothing continues behind it', async () => {
    const { stdout } = await interrupt('try { for (;;) { await pause(1); tick() } } finally { console.log("tidied") }');
    expect(stdout).toBe('begun\ntidied\n');
    const { result } = await run('const seen1 = count; await pause(30); count - seen1');
    expect(result).toBe('0');
  });

  test('close what a for await loop reads', async () => {
    const { stdout } = await interrupt(
      'async function* numbers() { try { for (;;) { await pause(1); yield tick() } } finally { console.log("closed") } }\nfor await (const n of numbers()) void n;',
    );
    expect(stdout).toBe('begun\nclosed\n');
  });

  test('reach lib by a signal', async () => {
    await run('import { interruption } from "./lib/jupyter/display/display"');
    const { stdout } = await interrupt(
      'interruption().addEventListener("abort", () => console.log("aborted")); tick(); await pause(60_000)',
    );
    expect(stdout).toBe('begun\naborted\n');
  });

  test.each([
    ['a loop', 'while (true) tick()'],
    ['a wait', 'tick(); await pause(60_000)'],
  ])('by SIGINT end %s', async (_name, code) => {
    const { errors } = await interrupt(code, () => kernel.process.kill('SIGINT'));
    expect(errors[0].ename).toBe('Interrupted');
  });
});

describe('imports', () => {
  const folder = `experiments/runs/kernel-test-${process.pid}`;
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
  beforeAll(() => mkdirSync(folder, { recursive: true }));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('of ES modules with top-level await', async () => {
    expect(
      (
        await run(
          'import * as vega from "vega";\nimport { compile } from "vega-lite";\n[typeof vega.parse, typeof compile]',
        )
      ).result,
    ).toBe("[ 'function', 'function' ]");
    expect((await run('const { View } = await import("vega"); typeof View')).result).toBe("'function'");
  });

  test('see edits of modules, of those behind them, and new files', async () => {
    write('inner.ts', 'export const value: number = 1;');
    write('outer.ts', 'import { value } from "./inner";\nexport const doubled = 2 * value;');
    const cell = `import { doubled } from "./${folder}/outer"; doubled`;
    expect((await run(cell)).result).toBe('2');
    write('inner.ts', 'export const value: number = 21;');
    expect((await run(cell)).result).toBe('42');
    write('inner.ts', 'export const value: string = "x";');
    const { errors } = await run(cell);
    expect(errors[0].evalue).toMatch(new RegExp(`^${folder}/outer.ts:2:28 TS2363`));
    write('inner.ts', 'export const value = 4, more = 5;');
    expect((await run(cell)).result).toBe('8');
    expect((await run(`import { more } from "./${folder}/inner"; more`)).result).toBe('5');

    const missing = `import { born } from "./${folder}/born"; born`;
    expect((await run(missing)).errors[0].evalue).toContain('TS2307');
    write('born.ts', 'export const born = "late";');
    expect((await run(missing)).result).toBe("'late'");
  });

  test('that go up to lib learn where imports begin', async () => {
    const { errors } = await run('import { oneOf } from "../lib/util/errors";');
    expect(errors[0]!.evalue).toMatch(/TS2307: .*'\.\/lib\/util\/errors' is found/);
  });

  test('share one instance with lib, which computes once it has an engine', async () => {
    const { errors } = await run('import { tf as early } from "./lib/tensor/tf";\nearly.scalar(1);');
    expect(errors[0].evalue).toContain('await openEngine()');
    await run('import { openEngine } from "./lib/engine/open";\nawait openEngine();');
    expect((await run('early.scalar(2).dataSync()[0]')).result).toBe('2');
    expect(
      (
        await run(
          'import { tf } from "./lib/tensor/tf";\nimport * as again from "./lib/tensor/tf";\n[tf === again.tf, tf.tensor1d([1, 2]).sum().dataSync()[0]]',
        )
      ).result,
    ).toBe('[ true, 3 ]');
  });
});

describe('editor', () => {
  test('completes names of other cells, and counts in code points', async () => {
    await run('const flowers = { petals: 5, pistils: 1 }');
    const code = '"🌸"; flowers.pe';
    const reply = await kernel.request('complete_request', { code, cursor_pos: Array.from(code).length });
    expect(reply).toMatchObject({ status: 'ok', cursor_start: 13, cursor_end: 15 });
    expect((reply.matches as string[])[0]).toBe('petals');
  });

  test('inspects types and documentation', async () => {
    const reply = await kernel.request('inspect_request', { code: 'flowers', cursor_pos: 2, detail_level: 0 });
    expect(reply).toMatchObject({
      status: 'ok',
      found: true,
      data: { 'text/plain': expect.stringContaining('petals: number') },
    });
    expect(await kernel.request('inspect_request', { code: '   ', cursor_pos: 1 })).toMatchObject({
      status: 'ok',
      found: false,
    });
  });

  test('knows when code is complete', async () => {
    expect(await kernel.request('is_complete_request', { code: 'for (;;) {' })).toMatchObject({
      status: 'incomplete',
      indent: '  ',
    });
    expect(await kernel.request('is_complete_request', { code: 'let a = 1' })).toMatchObject({ status: 'complete' });
  });

  test('learns of the kernel what other tools ask', async () => {
    expect(await kernel.request('kernel_info_request')).toMatchObject({
      status: 'ok',
      language_info: { name: 'typescript', file_extension: '.ts' },
    });
    expect(await kernel.request('comm_info_request')).toEqual({ status: 'ok', comms: {} });
    expect(await kernel.request('history_request')).toMatchObject({ status: 'ok', history: expect.any(Array) });
  });
});
