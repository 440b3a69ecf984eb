import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, type TestContext, test, vi } from 'vitest';
import { pythonEnvironment } from '../../lib/jupyter/install/python';
import { KERNEL_NAME, register, unregister } from '../../lib/jupyter/install/register';
import { compareNotebooks } from '../../lib/jupyter/notebook/compare';
import { executeNotebook } from '../../lib/jupyter/notebook/execute';
import { type Notebook, readNotebook, writeNotebook } from '../../lib/jupyter/notebook/notebook';
import { withParameters } from '../../lib/jupyter/notebook/parameters';
import { resultsFile } from '../../lib/runs/trialResults';
import { UserError } from '../../lib/util/errors';
import { userJupyter } from '../../lib/util/jupyter';
import { execute } from '../../lib/util/processes';

// Jupyter's own tools with our kernel, and our files in Jupyter's own checks.

const ROOT = resolve(__dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'edgevit-jupyter-'));
vi.stubEnv('JUPYTER_DATA_DIR', join(folder, 'data')); // its history is not the user's
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** nbclient, nbformat, Jupyter's test of kernels (which is none of the requirements) and all that they need. */
const NBCLIENT = [
  'jupyter_kernel_test==0.7.0 --hash=sha256:2c60503b36cf0c58a7fb3b62e29254d2f2a9bd11c3fe634041e46f0a9b9eab98',
  ...['nbclient', 'nbformat', 'jupyter-client', 'jupyter-core', 'traitlets', 'python-dateutil', 'six', 'tzdata'],
  ...['tornado', 'pyzmq', 'platformdirs', 'fastjsonschema', 'jsonschema', 'attrs', 'referencing', 'rpds-py'],
  ...['jsonschema-specifications', 'typing-extensions'],
];

let python: string | undefined;
let reason = '';
beforeAll(async () => {
  try {
    python = await pythonEnvironment(join(ROOT, '.venv-test'), NBCLIENT, () => {});
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    reason = error.message;
  }
}, 600_000);

/** Runs Python with our kernel registered; skips the test where there is no environment. */
async function jupyter(context: TestContext, script: string, ...args: string[]): Promise<string> {
  if (!python) context.skip(reason);
  const { code, output } = await execute(python!, ['-c', script, ...args], {
    cwd: folder,
    env: { ...process.env, JUPYTER_PATH: folder },
  });
  expect(code, output).toBe(0);
  return output;
}

const NOTEBOOK: Notebook = {
  nbformat: 4,
  nbformat_minor: 5,
  metadata: { kernelspec: { name: KERNEL_NAME, display_name: 'x', language: 'typescript' } },
  cells: [
    { cell_type: 'markdown', id: 'a', metadata: {}, source: '# Notebook' },
    ...[
      'import { show, showTable } from "./lib/jupyter/display/display";\nimport { oneOf } from "./lib/util/errors";\noneOf(["a", "b"])',
      'for (let i = 0; i < 2000; i++) console.log(i);\nawait show({ data: { values: [{ n: 1 }] }, mark: "bar", encoding: { x: { field: "n", type: "quantitative" } } })',
      'showTable([{ flower: "🌸", petals: 5 }])',
    ].map((source, i) => ({
      cell_type: 'code' as const,
      id: `b${i}`,
      metadata: {},
      source,
      outputs: [],
      execution_count: null,
    })),
  ],
};

const EXECUTE = `
import sys, nbformat
from nbclient import NotebookClient
nb = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(nb, timeout=300, coalesce_streams=True, resources={'metadata': {'path': sys.argv[3]}}).execute()
for cell in nb.cells: cell.metadata.pop('execution', None)  # when it ran
nbformat.validate(nb)
nbformat.write(nb, sys.argv[2])`;

test('nbclient gives the outputs that our runner gives, in the same bytes', async context => {
  register(folder);
  const [ours, theirs] = [join(folder, 'ours.ipynb'), join(folder, 'theirs.ipynb')];
  const notebook = structuredClone(NOTEBOOK);
  expect(await executeNotebook(notebook, { timeoutMs: 60_000, folder: ROOT })).toEqual([]);
  writeNotebook(ours, notebook);
  await jupyter(context, EXECUTE, ours, theirs, ROOT);
  const executed = readNotebook(theirs);
  expect(executed.cells).toEqual(readNotebook(ours).cells);
  writeNotebook(ours, executed);
  await jupyter(
    context,
    'import sys; assert open(sys.argv[1], "rb").read() == open(sys.argv[2], "rb").read()',
    ours,
    theirs,
  );
});

test('nbclient stops at a failing cell with its error', async context => {
  register(folder);
  const failing = structuredClone(NOTEBOOK);
  failing.cells.push({
    cell_type: 'code',
    id: 'c',
    metadata: {},
    source: 'throw new RangeError("out of range")',
    outputs: [],
    execution_count: null,
  });
  const path = join(folder, 'failing.ipynb');
  writeNotebook(path, failing);
  const output = await jupyter(
    context,
    `${EXECUTE.replace(
      "NotebookClient(nb, timeout=300, coalesce_streams=True, resources={'metadata': {'path': sys.argv[3]}}).execute()",
      `
from nbclient.exceptions import CellExecutionError
try: NotebookClient(nb, timeout=300, coalesce_streams=True, resources={'metadata': {'path': sys.argv[3]}}).execute()
except CellExecutionError as error: print(error.ename, '|', error.evalue)`,
    )}`,
    path,
    path,
    ROOT,
  );
  expect(output.trim()).toBe('RangeError | out of range');
});

test('nbclient interrupts a cell that takes too long, and the kernel continues', async context => {
  register(folder);
  const path = join(folder, 'slow.ipynb');
  writeNotebook(path, { ...NOTEBOOK, cells: [] });
  const output = await jupyter(
    context,
    `
import sys, nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell as cell
nb = nbformat.read(sys.argv[1], as_version=4)
nb.cells = [cell('let kept = 1; 1'), cell('while (true);', metadata={'tags': ['raises-exception']}), cell('kept')]
client = NotebookClient(nb, timeout_func=lambda cell: 5 if 'while' in cell.source else 120, interrupt_on_timeout=True)
client.execute()
print(nb.cells[1].outputs[0].ename, nb.cells[2].outputs[0].data['text/plain'])`,
    path,
  );
  expect(output.trim().split('\n').at(-1)).toBe('Interrupted 1');
});

test('every test of jupyter_kernel_test passes, and none is skipped', async context => {
  register(folder);
  const output = await jupyter(context, readFileSync(join(ROOT, 'test/fixtures/kernel_test.py'), 'utf8'));
  expect(output).toMatch(/Ran 1[2-9] tests.*\n\nOK\s*$/);
});

test('Jupyter can speak to the kernel over sockets that nobody else can open', async context => {
  register(folder);
  const output = await jupyter(
    context,
    `
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name='${KERNEL_NAME}', transport='ipc')
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute('6 * 7')
print(client.get_shell_msg(timeout=60)['content']['status'])
client.stop_channels()
manager.shutdown_kernel()`,
  );
  expect(output.trim()).toBe('ok');
});

const PROJECT = readdirSync(join(ROOT, 'notebooks')).filter(name => name.endsWith('.ipynb'));
/** Whose rows a notebook reads. */
const EXPERIMENTS: Record<string, readonly string[]> = {
  '08-ablations.ipynb': ['lgl', 'attention', 'sample-rates', 'delegates'],
  '09-trade-offs.ipynb': ['variants'],
};

/** Parameters under which a notebook that trains takes seconds. */
const QUICK: Record<string, Record<string, string>> = {
  '03-global-sparse-attention.ipynb': { trainSize: '32', epochs: '1', sides: '[14,28]' },
  '07-training.ipynb': { data: 'petals:classes=3,train=16,test=8,size=32', size: '32', epochs: '2' },
};

/** The one that nbclient executes too, to the same outputs: it has charts and tables, parameters, a training with live output. */
const BOTH = '07-training.ipynb';

test.for(PROJECT)('%s runs, to the outputs that are committed', { timeout: 600_000 }, async (name, context) => {
  const missing = (EXPERIMENTS[name] ?? []).filter(experiment => !existsSync(resultsFile(experiment, 'flowers12')));
  if (missing.length > 0)
    context.skip(`there are no results of ${missing.join(', ')}: npm run experiment -- ${missing[0]} makes them`);
  const [given, theirs] = [join(folder, name), join(folder, `nbclient-${name}`)];
  const parameters = new Map(Object.entries(QUICK[name] ?? {}));
  const saved = readNotebook(join(ROOT, 'notebooks', name));
  const notebook = withParameters(structuredClone(saved), parameters, name);
  writeNotebook(given, notebook);
  expect(await executeNotebook(notebook, { timeoutMs: 300_000, folder: join(ROOT, 'notebooks') })).toEqual([]);
  if (parameters.size === 0) expect(await compareNotebooks(saved, notebook, 1e-3)).toEqual([]);
  if (name !== BOTH) return;
  register(folder);
  await jupyter(context, EXECUTE, given, theirs, join(ROOT, 'notebooks'));
  expect(await compareNotebooks(notebook, readNotebook(theirs), 1e-6)).toEqual([]);
});

test('nbformat finds every notebook of the project valid', async context => {
  const notebooks = PROJECT.map(name => join(ROOT, 'notebooks', name));
  await jupyter(
    context,
    `
import sys, nbformat
for path in sys.argv[1:]: nbformat.validate(nbformat.read(path, as_version=nbformat.NO_CONVERT))`,
    ...notebooks,
  );
});

test('the kernel is found where it is registered, for the project or for the user, and gone when removed', async context => {
  const list = `
from jupyter_client.kernelspec import KernelSpecManager
spec = KernelSpecManager().get_all_specs().get('${KERNEL_NAME}')
print(spec and spec['spec']['display_name'])`;
  register(folder);
  expect((await jupyter(context, list)).trim()).toBe('TypeScript (EdgeViT Lab)');
  unregister(folder);
  expect((await jupyter(context, list)).trim()).toBe('None');
  const data = await jupyter(context, 'from jupyter_core.paths import jupyter_data_dir; print(jupyter_data_dir())');
  expect(userJupyter()).toBe(data.trim());
});

test("the user's Jupyter is where Jupyter itself has it, on each system", () => {
  expect(userJupyter({}, 'linux', '/home/me')).toBe('/home/me/.local/share/jupyter');
  expect(userJupyter({ XDG_DATA_HOME: '/data' }, 'linux', '/home/me')).toBe('/data/jupyter');
  expect(userJupyter({}, 'darwin', '/Users/me')).toBe('/Users/me/Library/Jupyter');
  expect(userJupyter({ APPDATA: '/roaming' }, 'win32', '/me')).toBe('/roaming/jupyter');
  expect(userJupyter({ JUPYTER_DATA_DIR: '/mine' }, 'win32', '/me')).toBe('/mine');
});

test('a Python environment that was not finished is made anew', async context => {
  if (!python) context.skip(reason);
  const half = join(folder, 'venv');
  const said: string[] = [];
  await expect(pythonEnvironment(half, ['no-such-package-of-edgevit==0'], line => said.push(line))).rejects.toThrow(
    /could not install its packages: .*no-such-package/,
  );
  writeFileSync(join(half, 'left-over'), '');
  await pythonEnvironment(half, ['six'], line => said.push(line));
  await pythonEnvironment(half, ['six'], line => said.push(line));
  expect(said).toHaveLength(2);
  expect(readdirSync(half)).not.toContain('left-over');
});
