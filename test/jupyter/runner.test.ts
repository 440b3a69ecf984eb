import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { compareNotebooks } from '../../lib/jupyter/notebook/compare';
import { executeNotebook } from '../../lib/jupyter/notebook/execute';
import {
  type CodeCell,
  type Notebook,
  type Output,
  readNotebook,
  writeNotebook,
} from '../../lib/jupyter/notebook/notebook';
import { parseKeepingNumbers } from '../../lib/jupyter/notebook/numbers';
import { withoutParameters, withParameters } from '../../lib/jupyter/notebook/parameters';
import { UserError } from '../../lib/util/errors';

// The runner: notebooks in, executed notebooks out, without Jupyter.

const ROOT = resolve(__dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'edgevit-notebooks-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Cell = string | { source: string; tags: string[] };

function notebook(...cells: Cell[]): Notebook {
  return {
    nbformat: 4,
    nbformat_minor: 5,
    metadata: {},
    cells: cells.map((cell, i) => {
      const { source, tags } = typeof cell === 'string' ? { source: cell, tags: undefined } : cell;
      return {
        cell_type: 'code',
        id: `cell-${i}`,
        source,
        metadata: tags ? { tags } : {},
        outputs: [],
        execution_count: null,
      };
    }),
  };
}

function save(name: string, ...cells: Cell[]): string {
  const path = join(folder, name);
  writeNotebook(path, notebook(...cells));
  return path;
}

function outputs(of: Notebook | string): Output[][] {
  return (typeof of === 'string' ? readNotebook(of) : of).cells.map(cell => (cell as CodeCell).outputs);
}

function npmRun(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return npmRunIn(ROOT, ...args);
}

/** As npm does: in the project's folder, with the one where it was called in INIT_CWD. */
function npmRunIn(here: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(
    process.execPath,
    [join(ROOT, 'node_modules/tsx/dist/cli.mjs'), 'lib/cli/main.ts', 'notebooks', ...args],
    { cwd: ROOT, encoding: 'utf8', env: { ...process.env, INIT_CWD: here } },
  );
}

const options = { timeoutMs: 60_000 };

describe('a run', () => {
  test('fills in outputs of every kind, and counts', async () => {
    const nb = notebook(
      'console.log("one"); console.error("two"); console.log("three")',
      'import { showTable, progressBar } from "./lib/jupyter/display/display";\nconst bar = progressBar(3);\nfor (let i = 1; i <= 3; i++) bar.to(i);\nshowTable([{ a: 1 }])',
      { source: 'throw new Error("not run")', tags: ['skip-execution'] },
      { source: 'throw new RangeError("meant")', tags: ['raises-exception'] },
      '',
      '6 * 7',
    );
    expect(await executeNotebook(nb, options)).toEqual([]);
    const [streams, shown, skipped, raised, empty, value] = outputs(nb);
    expect(streams).toEqual([
      { output_type: 'stream', name: 'stdout', text: 'one\n' },
      { output_type: 'stream', name: 'stderr', text: 'two\n' },
      { output_type: 'stream', name: 'stdout', text: 'three\n' },
    ]);
    expect(shown.map(output => (output as { data: Record<string, string> }).data['text/plain'])).toEqual([
      '████████████████████████ 3/3',
      'a\n─\n1',
    ]);
    expect([skipped, empty]).toEqual([[], []]);
    expect(raised).toMatchObject([{ output_type: 'error', ename: 'RangeError', evalue: 'meant' }]);
    expect(value).toEqual([
      { output_type: 'execute_result', data: { 'text/plain': '42' }, metadata: {}, execution_count: 4 },
    ]);
    expect(nb.metadata.kernelspec?.name).toBe('edgevit-lab');
  });

  test('stops at the cell that fails, and clears what later cells had', async () => {
    const nb = notebook('1', 'throw new TypeError("bad")', '3');
    (nb.cells[2] as CodeCell).outputs = [{ output_type: 'stream', name: 'stdout', text: 'old' }];
    expect(await executeNotebook(nb, options)).toMatchObject([
      { where: 'cell [2]', ename: 'TypeError', evalue: 'bad' },
    ]);
    expect(outputs(nb).map(list => list.length)).toEqual([1, 1, 0]);
  });

  test('fails for what a cell left in the background, even after the last reply', async () => {
    const nb = notebook('void setTimeout(() => Promise.reject(new Error("too late")), 200)');
    expect(await executeNotebook(nb, options)).toMatchObject([{ where: 'cell [1]', evalue: 'too late' }]);
    expect(outputs(nb)[0]).toMatchObject([{ output_type: 'error', evalue: 'too late' }]);
  });

  test('interrupts a cell that takes too long, and one whose run is given up', async () => {
    expect(await executeNotebook(notebook('await new Promise(() => {})'), { timeoutMs: 5000 })).toMatchObject([
      { where: 'cell [1]', ename: 'Interrupted', evalue: 'it did not end within 5 s' },
    ]);
    const given = new AbortController();
    expect(
      await executeNotebook(notebook('1', 'await new Promise(() => {})'), {
        ...options,
        signal: given.signal,
        onCell: () => setTimeout(() => given.abort(), 300),
      }),
    ).toMatchObject([{ ename: 'Interrupted', evalue: 'the run was interrupted' }]);
  });

  test('says that a kernel has died', async () => {
    const nb = notebook('process.exit(7)');
    expect(await executeNotebook(nb, options)).toMatchObject([
      { ename: 'KernelDied', evalue: 'the kernel ended (exit code 7)' },
    ]);
  });

  test('says that a kernel ran out of memory, and what its limit was', async () => {
    vi.stubEnv('NODE_OPTIONS', '--max-old-space-size=200');
    try {
      const nb = notebook('const all: object[] = []; for (;;) all.push(Array(1000).fill({}));');
      const [failure] = await executeNotebook(nb, options);
      expect(failure).toMatchObject({
        ename: 'KernelDied',
        evalue: expect.stringMatching(/^[^\n]*out of memory, limit 2\d\d MB/),
      });
      expect(failure!.evalue).not.toContain('0x');
    } finally {
      vi.unstubAllEnvs();
    }
  });

  test('runs a notebook in JavaScript in its kernel, and one of tslab as tslab checks it', async () => {
    const js = notebook('const x = 1; let y = 2; y = "text"; y + x');
    js.metadata = { kernelspec: { name: 'jslab', display_name: 'JavaScript', language: 'javascript' } };
    expect(await executeNotebook(js, options)).toEqual([]);
    expect(outputs(js)[0]).toMatchObject([{ data: { 'text/plain': "'text1'" } }]);
    expect(js.metadata).toMatchObject({ kernelspec: { name: 'jslab' }, language_info: { name: 'javascript' } });

    const tslab = notebook(
      'import * as tslab from "tslab";\nfunction train(epochs, callback: (error, done?: string) => void) { callback(null, "trained " + epochs) }\ntrain(3, (_, done) => tslab.display.html(done));\nlet obj = { x: null }; obj?.x?.z',
      'let num = 123.4;\nnum = "tslab";',
    );
    tslab.metadata = { kernelspec: { name: 'tslab', display_name: 'TypeScript', language: 'typescript' } };
    expect(await executeNotebook(tslab, { ...options, folder: ROOT })).toMatchObject([
      { where: 'cell [2]', ename: 'TypeScriptError' },
    ]);
    expect(outputs(tslab)[0]).toMatchObject([{ data: { 'text/html': 'trained 3' } }]);
    expect(tslab.metadata.kernelspec?.name).toBe('tslab');
  });
});

describe('the file', () => {
  test('has the bytes that Jupyter would write, and is read back the same', () => {
    const path = save('bytes.ipynb', 'const a = 1;\nconst flower = "🌸";');
    const nb = readNotebook(path);
    (nb.cells[0] as CodeCell).outputs = [
      {
        output_type: 'display_data',
        metadata: {},
        data: { 'text/plain': 'x\ny', 'image/png': 'AAAA', 'application/json': { b: [1], a: 2 } },
      },
    ];
    writeNotebook(path, nb);
    const text = readFileSync(path, 'utf8');
    expect(text).toBe(`{
 "cells": [
  {
   "cell_type": "code",
   "execution_count": null,
   "id": "cell-0",
   "metadata": {},
   "outputs": [
    {
     "data": {
      "application/json": {
       "a": 2,
       "b": [
        1
       ]
      },
      "image/png": "AAAA",
      "text/plain": [
       "x\\n",
       "y"
      ]
     },
     "metadata": {},
     "output_type": "display_data"
    }
   ],
   "source": [
    "const a = 1;\\n",
    "const flower = \\"🌸\\";"
   ]
  }
 ],
 "metadata": {},
 "nbformat": 4,
 "nbformat_minor": 5
}
`);
    expect(readNotebook(path)).toEqual(nb);
  });

  test('keeps what is not its own digit by digit, and reads what tools forget to write', () => {
    const path = join(folder, 'kept.ipynb');
    const metadata =
      '{ "id": 12345678901234567890, "f": 1.0, "e": 1E5, "n": NaN, "i": -Infinity, "s": "1.0, NaN \\" 2.50" }';
    writeFileSync(
      path,
      `\ufeff{ "nbformat": 4, "metadata": ${metadata}, "cells": [
        { "cell_type": "code", "source": "1", "outputs": [{ "output_type": "display_data", "data": { "application/json": { "v": NaN } } }] },
        { "cell_type": "code" }, { "cell_type": "markdown", "source": ["# a"] }] }`,
    );
    const nb = readNotebook(path);
    expect(nb.cells[1]).toMatchObject({ source: '', outputs: [], execution_count: null, metadata: {} });
    writeNotebook(path, nb);
    const text = readFileSync(path, 'utf8');
    for (const kept of [
      '"id": 12345678901234567890',
      '"f": 1.0',
      '"e": 1E5',
      '"n": NaN',
      '"i": -Infinity',
      '"s": "1.0, NaN \\" 2.50"',
      '"v": NaN',
    ])
      expect(text).toContain(kept);
    expect(text).not.toContain('\uffff');
    expect(text).not.toContain('\ufeff');
  });

  test.each([
    ['missing', undefined, /There is no notebook/],
    ['no JSON', '{', /is no notebook/],
    ['another format', '{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}', /format 4: nbformat/],
    [
      'for Python',
      '{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "python3", "language": "python"}}, "cells": []}',
      /for the kernel 'python3'/,
    ],
  ])('is refused when it is %s', (name, text, message) => {
    const path = join(folder, `${name}.ipynb`);
    if (text !== undefined) writeFileSync(path, text);
    expect(() => readNotebook(path)).toThrow(UserError);
    expect(() => readNotebook(path)).toThrow(message);
  });
});

describe('parameters', () => {
  const declared = notebook(
    {
      source:
        "const quick = true, epochs: number = 3;\nlet model: 'xxs' | 'xs' = 'xxs';\nconst name = `run`;\nconst sizes = [1, 2] as const;\nconst shift = -1;\nconst now = Date.now();\nconst settings = { lr: 1 };",
      tags: ['parameters'],
    },
    'epochs',
  );
  const given = (...pairs: [string, string][]): Notebook => withParameters(declared, new Map(pairs), 'n.ipynb');

  test('become a cell behind the declared ones, with their keyword and type', () => {
    const nb = given(
      ['quick', 'false'],
      ['epochs', '1e2'],
      ['model', 'xs'],
      ['name', 'it\'s "1"'],
      ['sizes', '[3]'],
      ['shift', '0.5'],
      ['settings', '{"lr": 2}'],
    );
    expect(nb.cells).toHaveLength(3);
    expect(nb.cells[1]).toMatchObject({ id: 'injected-parameters', metadata: { tags: ['injected-parameters'] } });
    expect(nb.cells[1].source).toBe(
      'const quick = false;\nconst epochs: number = 100;\nlet model: \'xxs\' | \'xs\' = "xs";\nconst name = "it\'s \\"1\\"";\nconst sizes = [3];\nconst shift = 0.5;\nconst settings = {"lr":2};',
    );
  });

  test('of an earlier run are replaced', () => {
    const again = withParameters(given(['epochs', '5']), new Map([['epochs', '6']]), 'n.ipynb');
    expect(again.cells.map(cell => cell.source).filter(source => /epochs.* = [56]/.test(source))).toEqual([
      'const epochs: number = 6;',
    ]);
    expect(withoutParameters(again).cells).toEqual(declared.cells);
  });

  test.each([
    ['epoch', '3', [/'epoch'/, /'quick'/, /'settings'/]],
    ['epochs', 'three', [/epochs/, /'three'/, /number/]],
    ['epochs', '', [/epochs/, /''/, /number/]],
    ['quick', '1', [/quick/, /'1'/, /true or false/]],
    ['model', 's', [/model/, /'s'/, /'xxs' or 'xs'/]],
    ['sizes', '3', [/sizes/, /'3'/, /list/]],
    ['settings', '[]', [/settings/, /'\[\]'/, /object/]],
    ['now', '3', [/now/, /computed/]],
  ])('%s=%s is refused: what, which value, what is allowed', (key, text, facts) => {
    expect(() => given([key, text])).toThrow(UserError);
    for (const fact of facts) expect(() => given([key, text])).toThrow(fact);
  });

  test('of a notebook without such a cell are refused', () => {
    expect(() => withParameters(notebook('1'), new Map([['a', '1']]), 'n.ipynb')).toThrow(
      /no cell tagged 'parameters'/,
    );
  });
});

describe('the comparison', () => {
  const showing = (...all: Output[]): Notebook => {
    const nb = notebook('x');
    Object.assign(nb.cells[0], { outputs: all, execution_count: 1 });
    return nb;
  };
  const text = (value: string): Output => ({ output_type: 'stream', name: 'stdout', text: value });
  const data = (bundle: Record<string, unknown>): Output => ({
    output_type: 'display_data',
    data: bundle,
    metadata: {},
  });
  const compare = (before: Output[], after: Output[], tolerance = 1e-3) =>
    compareNotebooks(showing(...before), showing(...after), tolerance);

  test('lets numbers differ by the tolerance, and nothing else', async () => {
    expect(await compare([text('loss 0.5001, 4,067,704 params')], [text('loss 0.5003, 4,067,705 params')])).toEqual([]);
    expect(await compare([text('step 9.99 |')], [text('step 10.0 |')])).toEqual([]);
    expect(await compare([text('a\nloss 0.50')], [text('a\nloss 0.51')])).toEqual([
      { where: 'cell [1], stdout', before: 'loss 0.50', after: 'loss 0.51' },
    ]);
    expect(await compare([text('loss 0.50')], [text('loss 0.51')], 0.05)).toEqual([]);
    expect(await compare([text('top-1 0.5')], [text('top-2 0.5')])).toHaveLength(1);
    expect(await compare([text('good')], [text('bad')])).toHaveLength(1);
  });

  test('takes a number for the same however another program writes it', async () => {
    const form = 'application/vnd.vegalite.v5+json';
    const pythons = parseKeepingNumbers('{"values": [1e-05, 1.0, NaN]}');
    expect(await compare([data({ [form]: pythons })], [data({ [form]: { values: [0.00001, 1, NaN] } })])).toEqual([]);
    expect(await compare([data({ [form]: pythons })], [data({ [form]: { values: [0.001, 1, NaN] } })])).toHaveLength(1);
  });

  test('reads charts as data and leaves their images out', async () => {
    const chart = (value: number, svg: string): Output =>
      data({ 'application/vnd.vegalite.v5+json': { data: { values: [{ a: value, b: 'x' }] } }, 'image/svg+xml': svg });
    expect(await compare([chart(1, '<svg>1</svg>')], [chart(1.0001, '<svg>2</svg>')])).toEqual([]);
    expect(await compare([chart(1, '')], [chart(2, '')])).toMatchObject([
      { where: 'cell [1], application/vnd.vegalite.v5+json' },
    ]);
  });

  test('reads images as pixels', async () => {
    const png = async (red: number): Promise<string> => {
      const { toPng } = await import('../../lib/jupyter/display/pictures');
      return toPng({ width: 2, height: 1, pixels: Uint8Array.of(red, 0, 0, 9, 9, 9) });
    };
    expect(await compare([data({ 'image/png': await png(100) })], [data({ 'image/png': await png(101) })])).toEqual([]);
    expect(
      await compare([data({ 'image/png': await png(100) })], [data({ 'image/png': await png(200) })]),
    ).toHaveLength(1);
    const html = async (red: number): Promise<Output> =>
      data({ 'text/html': `<img src="data:image/png;base64,${await png(red)}"> 1.00` });
    expect(await compare([await html(100)], [await html(101)])).toEqual([]);
    expect(await compare([await html(100)], [await html(200)])).toHaveLength(1);
  });

  test('sees outputs that are gone, new, or of another kind; not those of cells that measure time', async () => {
    expect(await compare([], [text('x')])).toEqual([{ where: 'cell [1]', before: 'no outputs', after: 'stdout' }]);
    expect(await compare([data({ 'text/plain': 'x' })], [data({ 'text/html': 'x' })])).toHaveLength(1);
    const timed = (value: string): Notebook => {
      const nb = showing(text(value));
      nb.cells[0].metadata.tags = ['nbval-ignore-output'];
      return nb;
    };
    expect(await compareNotebooks(timed('1 ms'), timed('2 ms'), 1e-3)).toEqual([]);
  });
});

describe('npm run notebooks', () => {
  let good: string;
  beforeAll(() => {
    good = save(
      'good.ipynb',
      { source: 'const n: number = 2;', tags: ['parameters'] },
      'import { show } from "./lib/jupyter/display/display";\nshow({ data: { values: [{ n }] }, mark: "bar", encoding: { x: { field: "n", type: "quantitative" } } })',
      'n',
    );
  });

  test('gives the same bytes twice, and checks itself', () => {
    expect(npmRun(good, '--cwd', ROOT).status).toBe(0);
    const first = readFileSync(good);
    const second = npmRun(good, '--cwd', ROOT, '--out', join(folder, 'again'));
    expect(second).toMatchObject({ status: 0, stdout: expect.stringContaining('3 cells ran') });
    expect(readFileSync(join(folder, 'again', 'good.ipynb')).equals(first)).toBe(true);
    const checked = npmRun(good, '--cwd', ROOT, '--check', '-p', 'n=3');
    expect(checked.status).toBe(1);
    expect(checked.stderr).toMatch(/cell \[4\], text\/plain differs\n {2}- 2\n {2}\+ 3/);
    expect(readFileSync(good).equals(first)).toBe(true);
  });

  test('finds notebooks from where npm was called, and saves there', () => {
    const { status, stdout } = npmRunIn(folder, 'good.ipynb', '--cwd', ROOT, '--out', 'here');
    expect(stdout).toContain('good.ipynb: 3 cells ran');
    expect(status).toBe(0);
    expect(existsSync(join(folder, 'here', 'good.ipynb'))).toBe(true);
  });

  test('names the cell and the error of a failure, and saves the outputs', () => {
    const bad = save('bad.ipynb', '"kept"', 'const wrong: string = 1;');
    const { status, stderr } = npmRun(bad, good, '--out', join(folder, 'out'));
    expect(status).toBe(1);
    expect(stderr).toContain('bad.ipynb: cell [2] failed with TypeScriptError: cell[2]:1:7 TS2322');
    expect(outputs(join(folder, 'out', 'bad.ipynb'))).toMatchObject([
      [{ data: { 'text/plain': "'kept'" } }],
      [{ output_type: 'error' }],
    ]);
    expect(existsSync(join(folder, 'out', 'good.ipynb'))).toBe(true);
  });

  test('prints outputs as they come, continues behind a cell that fails, and keeps the last state of a line that changes', () => {
    const path = save(
      'going.ipynb',
      'for (let i = 0; i <= 200; i++) process.stdout.write(`\\r${i} %`);\nconsole.log();\nconsole.error("warned")',
      'throw new Error("first")',
      'prompt("never")',
      '"shown"',
    );
    const { status, stdout, stderr } = npmRun(path, '--keep-going', '--log-output');
    expect(status).toBe(1);
    expect(stdout).toContain("200 %\n'shown'\n");
    expect(stderr).toContain('warned\n');
    expect(stderr).toMatch(/cell \[2\] failed with Error: first[\s\S]*cell \[3\] failed with StdinNotImplementedError/);
    expect(outputs(path)).toMatchObject([
      [{ text: '200 %\n' }, { text: 'warned\n' }],
      [{ output_type: 'error' }],
      [{ output_type: 'error' }],
      [{ output_type: 'execute_result' }],
    ]);
  });

  test.each([
    [['no-such-notebook'], /'no-such-notebook' is no notebook/],
    [['missing.ipynb'], /There is no notebook/],
    [['-p', 'n'], /-p n: a parameter is given as key=value/],
    [['--timeout', '0'], /--timeout.*'0'/],
    [['--tolerance=x'], /--tolerance.*'x'/],
    [['--nothing'], /unknown option/],
  ])('%j stops with one sentence', (args, message) => {
    const { status, stderr } = npmRun(...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('    at ');
  });

  test('checks the parameters of all notebooks before the first runs', () => {
    const other = save('other.ipynb', '1');
    const { status, stderr } = npmRun(good, other, '-p', 'n=3', '--out', join(folder, 'none'));
    expect(status).toBe(2);
    expect(stderr).toMatch(/other\.ipynb takes no parameters/);
    expect(existsSync(join(folder, 'none'))).toBe(false);
  });

  test('is interrupted by Ctrl-C with the outputs saved', async () => {
    const started = join(folder, 'started');
    const slow = save(
      'slow.ipynb',
      '"saved at once"',
      `import { writeFileSync } from "node:fs";\nwriteFileSync(${JSON.stringify(started)}, "");\nawait new Promise(done => setTimeout(done, 60_000))`,
    );
    const runner = spawn(
      process.execPath,
      [
        join(ROOT, 'node_modules/tsx/dist/cli.mjs'),
        'lib/cli/main.ts',
        'notebooks',
        slow,
        '--out',
        join(folder, 'slow'),
      ],
      { cwd: ROOT, stdio: 'ignore' },
    );
    await expect.poll(() => existsSync(started), { timeout: 60_000 }).toBe(true);
    expect(outputs(join(folder, 'slow', 'slow.ipynb'))[0]).toMatchObject([
      { data: { 'text/plain': "'saved at once'" } },
    ]);
    runner.kill('SIGINT');
    const [code] = await new Promise<[number | null]>(done => runner.once('exit', status => done([status])));
    expect(code).toBe(130);
    expect(outputs(join(folder, 'slow', 'slow.ipynb'))[1]!.at(-1)).toMatchObject({
      output_type: 'error',
      ename: 'Interrupted',
    });
  });
});
