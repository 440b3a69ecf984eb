import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toJson } from '../lib/jupyter/display/json';
import type { Message } from '../lib/jupyter/protocol/message';
import { Compiler } from '../lib/jupyter/session/compiler';
import { placeOf } from '../lib/jupyter/session/place';
import { startKernel } from './kernelHelper';

// What a notebook far from this checkout expects of the kernel.

const folder = mkdtempSync(join(tmpdir(), 'edgevit-notebook-'));
let { kernel, run, late } = {} as Awaited<ReturnType<typeof startKernel>>;
beforeAll(async () => {
  writeFileSync(join(folder, 'data.csv'), 'a,b\n');
  writeFileSync(join(folder, 'helper.ts'), 'export const helped: number = 7;');
  writeFileSync(join(folder, 'settings.json'), '{"name":"beside"}');
  ({ kernel, run, late } = await startKernel(process.env, folder));
});
afterAll(async () => {
  await kernel.stop();
  rmSync(folder, { recursive: true, force: true });
});

const bundles = (messages: Message[]): Record<string, unknown>[] =>
  messages
    .filter(({ header }) => /^(display_data|execute_result)$/.test(header.msg_type))
    .map(({ content }) => content.data as Record<string, unknown>);

test('paths and imports are relative to the folder that the kernel is started in', async () => {
  const code =
    "import { readFileSync } from 'node:fs'; import { helped } from './helper'; [readFileSync('data.csv', 'utf8'), helped, __dirname === process.cwd()]";
  expect((await run(code)).result).toBe("[ 'a,b\\n', 7, true ]");
  expect((await run('import.meta.url')).result).toContain('/cell.ts');
});

describe('names that a failed cell did not come to set', () => {
  test.each(['const', 'let', 'var'])('by %s say so, instead of being undefined', async keyword => {
    const { count } = await run(`throw new Error('stop'); ${keyword} after: number = 2;`);
    const { status, errors } = await run('after * 2');
    expect(status).toBe('error');
    expect(errors[0]).toMatchObject({ ename: 'ReferenceError', evalue: `after was never set: cell [${count}] failed` });
  });

  test('can be set later', async () => {
    await run("throw new Error('stop'); let later: number = 2;");
    expect((await run('later = 5; later')).result).toBe('5');
  });
});

describe('what child processes and descriptors 1 and 2 get is output of the cell', () => {
  test('in the order in which it was written', async () => {
    const { stdout, stderr, messages } = await run(`
      import { execSync } from 'node:child_process';
      import { writeSync } from 'node:fs';
      console.log('before');
      execSync('echo from-child; echo to-stderr >&2', { stdio: 'inherit' });
      console.log('between');
      writeSync(1, 'raw\\n');
      for (let i = 0; i < 2000; i++) i % 2 ? console.log(i) : writeSync(1, i + '\\n');
      console.log('behind');`);
    const numbers = Array.from({ length: 2000 }, (_, i) => `${i}\n`).join('');
    expect(stdout).toBe(`before\nfrom-child\nbetween\nraw\n${numbers}behind\n`);
    expect(stderr).toBe('to-stderr\n');
    expect(messages.some(({ content }) => String(content.text).includes('\0'))).toBe(false);
  });

  test('also between what is printed to the other descriptor, and displays', async () => {
    const { messages } = await run(`
      import { writeSync } from 'node:fs';
      import { display } from 'tslab';
      console.log('1'); writeSync(2, '2'); console.log('3'); display.text('4'); writeSync(1, '5'); console.error('6'); writeSync(1, '7'); undefined`);
    const told = messages.map(
      ({ content }) => content.text ?? (content.data as Record<string, string>)?.['text/plain'],
    );
    expect(told.filter(text => text !== undefined)).toEqual(['1\n', '2', '3\n', '4', '5', '6\n', '7']);
  });

  test('with as many bytes as there are, whole characters only, and whatever they are', async () => {
    const { stdout } = await run(`
      const flower = '\u{1F338}', half = Buffer.from(flower);
      process.stdout.write(half.subarray(0, 2)); process.stdout.write(half.subarray(2));
      console.log('\\0' + flower.repeat(50_000));`);
    expect(stdout).toBe(`🌸\0${'🌸'.repeat(50_000)}\n`);
  });
});

describe('errors that are hard to describe fail the cell', () => {
  test.each([
    ['a cause that is itself', 'const e = new Error("loop"); e.cause = e; throw e', 'loop'],
    [
      'a message that is a function',
      'throw Object.assign(new Error("x"), { message: () => 1 })',
      '[Function: message]',
    ],
    [
      'an inspector that throws',
      'throw { [Symbol.for("nodejs.util.inspect.custom")]() { throw new Error("no") } }',
      'inspect.custom',
    ],
    ['a proxy that throws', 'throw new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 2 } })', ''],
  ])('%s', async (_name, code, evalue) => {
    const { status, errors } = await run(code);
    expect(status).toBe('error');
    expect(errors[0].evalue).toContain(evalue);
  });

  test('their members, causes and properties are told', async () => {
    const { errors } = await run(
      'throw Object.assign(new AggregateError([new TypeError("one"), "two"], "many", { cause: { why: 1 } }), { code: "E7" })',
    );
    const text = errors[0].traceback.join('\n');
    for (const part of ['many', "code: 'E7'", '[0] TypeError: one', "[1] 'two'", 'Caused by { why: 1 }'])
      expect(text).toContain(part);
  });
});

describe('errors that are no failure of the cell are at their places in it too', () => {
  test.each([
    ['printed', 'console.log(new Error("seen"))', '1:13'],
    ['printed with a cause', 'console.warn(new Error("outer", { cause: new Error("seen") }))', '1:14'],
    ['printed in an object', '\n\nconsole.error({ of: [new Error("seen")] }, 1)', '3:22'],
    ['printed as text', 'process.stdout.write(new Error("seen").stack!)', '1:22'],
    ['the value of the cell', '[new Error("seen"), 1]', '1:2'],
    ['within a value that is thrown', 'throw { of: new Error("seen") }', '1:13'],
    ['a property of one', 'throw Object.assign(new TypeError("outer"), { of: new Error("seen") })', '1:21'],
    ['of `using`', '{ using a = { [Symbol.dispose]() { throw new Error("seen") } }; throw new Error("body") }', '1:42'],
  ])('%s', async (_name, code, at) => {
    const { stdout, stderr, result = '', errors, count } = await run(code);
    const text = [stdout, stderr, result, ...errors.flatMap(({ traceback }) => traceback)].join('\n');
    expect(text).toContain('Error: seen');
    expect(text).toContain(`cell[${count}]:${at}`);
    expect(text).not.toMatch(/session\.ts|owner\.ts|node:|\.js:|lines matching/);
  });
});

test('process.stdout is that of all cells: it takes any encoding, can be waited for, and has no end', async () => {
  const { stdout } = await run(`
    import { Readable } from 'node:stream';
    import { pipeline } from 'node:stream/promises';
    await pipeline(Readable.from(['piped ']), process.stdout);
    await new Promise<void>(done => process.stdout.write('616e64', 'hex', () => done()));
    await new Promise<void>(done => process.stdout.end(' ended', () => done()));`);
  expect(stdout).toBe('piped and ended');
  expect((await run('console.log("still there")')).stdout).toBe('still there\n');
});

describe('a display', () => {
  beforeAll(() => run("import { display } from 'tslab';"));

  test.each([
    ['a BigInt', 'display.raw("application/json", { rows: [{ n: 10n }] } as any)', /rows\[0\]\.n is the BigInt 10/],
    [
      'a cycle',
      'const c: any = {}; c.me = c; display.raw("application/json", c)',
      /me is an object that contains itself/,
    ],
    [
      'what no front end reads',
      'let deep: any = 1; for (let i = 0; i < 2000; i++) deep = { deep }; display.raw("application/json", deep)',
      /nested more than 400 deep/,
    ],
    ['an object where text is wanted', 'display.html({ a: 1 } as any)', /text\/html is \{ a: 1 \}/],
  ])('of %s fails the cell and keeps the kernel', async (_name, code, message) => {
    const { errors } = await run(code);
    expect(errors[0].ename).toBe('TypeError');
    expect(errors[0].evalue).toMatch(message);
    expect(errors[0].traceback[1]).toMatch(/^ {4}at cell\[\d+\]:1:/);
    expect((await run('1 + 1')).result).toBe('2');
  });

  test('of NaN, maps and sets says what JSON cannot hold; bytes become base64', () => {
    const { json, told } = toJson({
      'application/json': { a: [NaN], m: new Map([[1, 2]]) },
      'image/png': Buffer.from('x'),
    });
    expect(json).toEqual({ 'application/json': { a: [null], m: [[1, 2]] }, 'image/png': 'eA==' });
    expect(told).toEqual([expect.stringContaining('a[0] is NaN'), expect.stringContaining('m is a Map')]);
    expect(toJson({ 'application/json': { at: new Date(Number.NaN) } }).told).toHaveLength(1);
  });

  test('of text is text, whatever it is made of', () => {
    const bytes = Buffer.from('<svg/>');
    const { json, told } = toJson({ 'image/svg+xml': bytes, 'text/html': 5, 'text/plain': undefined });
    expect(json).toEqual({ 'image/svg+xml': '<svg/>', 'text/html': '5' });
    expect(told).toEqual([expect.stringContaining('text/plain is undefined')]);
    expect(toJson({ 'image/png': new Uint8Array(bytes).buffer }).json).toEqual({ 'image/png': 'PHN2Zy8+' });
  });

  test('as deep as it may be is read by the runner', async () => {
    const { status, messages } = await run(
      'let deep: any = 1; for (let i = 0; i < 400; i++) deep = { deep }; display.raw("application/json", deep)',
    );
    expect([status, bundles(messages)[0]['application/json']]).toEqual(['ok', expect.anything()]);
  });

  test.each([
    ['a typed array', 'new Float32Array(2e7)', 'Float32Array\\(20000000\\)', '19999900 more'],
    ['a map', 'new Map(Array.from({ length: 3e5 }, (_, i) => [i, { i }]))', 'Map\\(300000\\)', '299900 more'],
    [
      'what pretends to be large',
      'new Proxy([], { get: (t, k) => (k === "length" ? 2 ** 31 : 1), getOwnPropertyDescriptor: () => undefined })',
      '',
      '',
    ],
  ])('of %s looks at what it shows of it', async (_name, code, text, html) => {
    const { status, messages } = await run(`console.log(${code}); ${code}`);
    expect(status).toBe('ok');
    const [bundle] = bundles(messages);
    expect(bundle['text/plain']).toMatch(new RegExp(`^${text}`));
    expect(bundle['text/html'] ?? '').toContain(html);
  });

  test("of Deno's kind, of collections and of console.table has HTML", async () => {
    const own = await run('({ [Symbol.for("Jupyter.display")]: () => ({ "text/html": "<i>own</i>" }) })');
    expect(bundles(own.messages)).toEqual([{ 'text/html': '<i>own</i>' }]);
    const [map] = bundles((await run('new Map([["a", { x: 1 }]])')).messages);
    expect(map['text/plain']).toBe("Map(1) { 'a' => { x: 1 } }");
    expect(map['text/html']).toContain('<details');
    const [table] = bundles((await run('console.table([{ a: 1 }])')).messages);
    expect(table['text/plain']).toContain('(index)');
    expect(table['text/html']).toContain('<th>a</th>');
  });
});

describe('cells know the TypeScript of the house', () => {
  test.each([
    [
      'using',
      'const log: string[] = []; { using u = { [Symbol.dispose]() { log.push("disposed") } }; void u } log',
      "[ 'disposed' ]",
    ],
    ['using at the top', 'using top = { [Symbol.dispose]() {} }; const beside = 5; beside', '5'],
    ['import attributes', "import settings from './settings.json' with { type: 'json' }; settings.name", "'beside'"],
    ['inferred predicates', 'const nums: number[] = [1, undefined, 2].filter(x => x !== undefined); nums', '[ 1, 2 ]'],
    ['NoInfer', 'function pick<T>(a: T, b: NoInfer<T>) { return [a, b] } pick("a", "b")', "[ 'a', 'b' ]"],
    [
      'standard decorators',
      'function twice(f: Function, _: ClassMethodDecoratorContext) { return function (this: any) { return 2 * f.call(this) } } class D { @twice one() { return 1 } } new D().one()',
      '2',
    ],
    ['declare global', 'declare global { var shared: number } globalThis.shared = 3; shared', '3'],
    ['@ts-nocheck', '// @ts-nocheck\nconst bad: number = "x"; bad', "'x'"],
    ['import() of a name', "const name = './helper'; (await import(name)).helped", '7'],
  ])('%s', async (_name, code, result) => {
    expect(await run(code)).toMatchObject({ errors: [], result });
  });

  test('types with private members reach later cells as they are', async () => {
    await run(
      'class A { #p = 1; m() { return this.#p } } const mixin = (B: typeof A) => class extends B { private z = 1; zz() { return this.z } };',
    );
    expect((await run('const M = mixin(A); new M().m() + new M().zz()')).result).toBe('2');
    expect((await run('const wrong: string = new M().m();')).errors[0].evalue).toContain('TS2322');
  });

  test('what a lenient cell does wrong is a warning', async () => {
    const { result, stderr } = await run('// @lenient\nconst loose: number = "x"; loose');
    expect(result).toBe("'x'");
    expect(stderr).toMatch(/cell\[\d+\]:2:7 TS2322/);
  });
});

describe('a tsconfig.json', () => {
  const home = join(folder, 'configured');
  function compile(config: string) {
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, 'tsconfig.json'), config);
    const compiler = new Compiler(placeOf(home));
    expect(compiler.compile('1 +')).toHaveLength(1);
    return ['1 + 1', '2 + 2'].map(
      code => compiler.compile(code) as Exclude<ReturnType<typeof compiler.compile>, unknown[]>,
    );
  }

  test.each([
    { declaration: true, emitDeclarationOnly: true, declarationMap: true },
    { module: 'commonjs', target: 'es5', outFile: 'all.js', moduleResolution: 'node10', noEmit: true },
    { composite: true, rootDir: './src', mapRoot: './maps', verbatimModuleSyntax: true, erasableSyntaxOnly: true },
  ])('may be that of any project: %o', options => {
    for (const { js, warnings } of compile(JSON.stringify({ compilerOptions: options })))
      expect([js, warnings]).toEqual([expect.stringContaining('__cell__.result('), []]);
  });

  test.each([
    ['{ this is none', { line: 1, column: 8 }],
    ['{ "extends": "./missing.json" }', { line: 1, column: 1 }],
    ['{\n  "compilerOptions": { "strict": "very" }\n}', { line: 2, column: 34 }],
  ])('that is wrong is told with the first cell: %s', (config, place) => {
    const [first, second] = compile(config);
    expect(first!.warnings).toEqual([expect.objectContaining({ file: 'tsconfig.json', ...place })]);
    expect(second!.warnings).toEqual([]);
  });
});

describe('background work belongs to the cell that began it', () => {
  test('its output and its error, which fails no other cell', async () => {
    late.length = 0;
    const { count } = await run('void setTimeout(() => { console.log("late"); throw new Error("behind") }, 200);');
    const { status, stdout } = await run('await new Promise(done => setTimeout(done, 1000)); console.log("mine")');
    expect([status, stdout]).toEqual(['ok', 'mine\n']);
    await expect.poll(() => late.length, { timeout: 60_000 }).toBeGreaterThanOrEqual(2);
    expect(late.map(({ content }) => content.text ?? content.evalue)).toEqual(['late\n', 'behind']);
    expect((late[1].content.traceback as string[]).join('\n')).toContain(`cell[${count}]`);
  });
});

test('console.group indents, as far as the cell that opened it', async () => {
  expect((await run("console.group('a'); console.log('b'); console.groupEnd(); console.log('c')")).stdout).toBe(
    'a\n  b\nc\n',
  );
  await run("console.group('open'); throw new Error('in it')");
  expect((await run("console.log('outside')")).stdout).toBe('outside\n');
});

test('console.trace shows the frames of cells, and time() what work took', async () => {
  const { stderr, count } = await run('function f() { console.trace("here") } f()');
  expect(stderr).toBe(`Trace: here\n    at f (cell[${count}]:1:24)\n    at cell[${count}]:1:40\n`);
  const timed = await run('await time(() => 4)');
  expect([timed.result, /^time: .* \(CPU /.test(timed.stdout)]).toEqual(['4', true]);
});

test('an error behind an await, or in a display that nobody waits for, names the line of the cell', async () => {
  writeFileSync(
    join(folder, 'deep.ts'),
    'export async function deep() { await new Promise(done => setTimeout(done, 1)); throw new Error("deep") }',
  );
  const { errors, count } = await run('import { deep } from "./deep";\n\nawait deep();');
  expect(errors[0].traceback.join('\n')).toContain(`cell[${count}]:3:`);
});

describe('an interrupt', () => {
  const begun = 'console.log("begun");';
  test.each([
    ['an ES module that waits for ever', 'import "./waits.mjs"', `${begun} await new Promise(() => {});`],
    ['an ES module that computes for ever', 'import "./computes.mjs"', `${begun} for (;;);`],
    [
      'a value that is never ready to be shown',
      `({ [Symbol.for("Jupyter.display")]() { ${begun} return new Promise(() => {}); } })`,
      '',
    ],
  ])('ends %s', async (_name, code, module) => {
    for (const name of ['waits', 'computes']) writeFileSync(join(folder, `${name}.mjs`), module);
    const { errors } = await run(code, {}, ({ header }) => {
      if (header.msg_type === 'stream') void kernel.interrupt();
    });
    expect(errors[0].ename).toBe('Interrupted');
    expect((await run('1 + 1')).result).toBe('2');
  });
});

describe('the editor', () => {
  const ask = (type: string, code: string) =>
    kernel.request(type, { code, cursor_pos: Array.from(code).length, detail_level: 0 });

  test('completes import paths and file names', async () => {
    expect((await ask('complete_request', "import x from './help")).matches).toEqual(['helper']);
    expect((await ask('complete_request', "readFileSync('dat")).matches).toEqual(['data.csv']);
  });

  test('shows the signature inside a call', async () => {
    await run('const plus = (a: number, b: number) => a + b;');
    expect(await ask('inspect_request', 'plus(')).toMatchObject({
      found: true,
      data: { 'text/plain': expect.stringContaining('a: number, b: number') },
    });
    expect(await ask('inspect_request', 'undeclared')).toMatchObject({ found: false });
  });

  test.each([
    ['`abc', 'incomplete'],
    ['}{', 'invalid'],
    ['foo(', 'incomplete'],
    ["say('abc", 'invalid'],
    ['let a = 1', 'complete'],
  ])('%s is %s', async (code, status) => {
    expect(await ask('is_complete_request', code)).toMatchObject({ status });
  });
});

const TWICE = ['  1 | let twice = 1;', '> 2 | let twice = 2;', '    |     ^'];

test('JavaScript cells run unchecked', async () => {
  const js = await startKernel(process.env, folder, ['--js']);
  try {
    await js.run("const { basename } = require('node:path'); let n = 1;");
    expect((await js.run("n = 'text'; n + basename('/a/b')")).result).toBe("'textb'");
    const { errors } = await js.run('let twice = 1;\nlet twice = 2;'); // that is V8's to refuse
    expect(errors[0].traceback.slice(1)).toEqual([expect.stringMatching(/^ {4}at cell\[3\]:2:5/), '', ...TWICE]);
  } finally {
    await js.kernel.stop();
  }
});

test('a cell that closes descriptor 1 still prints', async () => {
  const other = await startKernel(process.env, folder);
  try {
    expect((await other.run("require('node:fs').closeSync(1); console.log('still'); 5")).stdout).toBe('still\n');
    expect((await other.run("console.error('here')")).stderr).toBe('here\n');
  } finally {
    await other.kernel.stop();
  }
});
