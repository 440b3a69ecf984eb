import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import type { Command } from 'commander';
import { type CellFailure, executeNotebook } from '../jupyter/notebook/execute';
import { type Notebook, readNotebook, writeNotebook } from '../jupyter/notebook/notebook';
import { withoutParameters, withParameters } from '../jupyter/notebook/parameters';
import type { Message } from '../jupyter/protocol/message';
import { UserError } from '../util/errors';
import { positive } from '../util/options';
import { ROOT } from '../util/root';
import { counted } from '../util/text';
import { checked } from './support/checked';

const FOLDER = join(ROOT, 'notebooks');
/** Where the command was typed: npm runs it in the project's folder. */
const HERE = process.env.INIT_CWD ?? process.cwd();
const BAR = 20;

interface Options {
  param?: Map<string, string>;
  out?: string;
  cwd?: string;
  check?: boolean;
  logOutput?: boolean;
  keepGoing?: boolean;
  timeout: number;
  tolerance: number;
}

/** `npm run notebooks`: executes notebooks without Jupyter and without Python. */
export function register(program: Command): void {
  program
    .command('notebooks')
    .description('Execute notebooks (by default all of notebooks/) and save their outputs after every cell.')
    .argument('[notebooks...]', 'names in notebooks/, or paths of .ipynb files')
    .option(
      '-p, --param <key=value>',
      "sets a variable of the cell tagged 'parameters'; may be given several times",
      addParameter,
    )
    .option('--out <folder>', 'save the executed notebooks there instead of in place')
    .option(
      '--cwd <folder>',
      "what the cells' imports and paths are relative to (default: each notebook's own folder)",
      folder,
    )
    .option('--log-output', 'print what the cells print and show, as it comes')
    .option('--keep-going', 'run the cells behind one that fails too')
    .option('--check', 'save nothing, but compare with the outputs that are there')
    .option(
      '--tolerance <share>',
      'by how much numbers may differ under --check, relative to the larger',
      checked(positive),
      1e-3,
    )
    .option('--timeout <seconds>', 'time for a single cell', checked(positive), 600)
    .action(run);
}

async function run(names: string[], options: Options): Promise<void> {
  const paths = names.length > 0 ? names.map(find) : all();
  const target = (path: string): string =>
    options.out === undefined ? path : join(resolve(HERE, options.out), basename(path));
  const twice = paths.find((path, i) => paths.findIndex(other => target(other) === target(path)) < i);
  if (twice)
    throw new UserError(`${target(twice)} would be written twice: give each notebook once, and --out different names.`);
  const notebooks = paths.map(path => {
    const near = relative(HERE, path);
    const name = near.startsWith('..') ? path : near;
    const saved = readNotebook(path);
    return { path, name, saved, notebook: withParameters(structuredClone(saved), options.param ?? new Map(), name) };
  });

  if (paths.some(path => path.startsWith(FOLDER + sep))) await (await import('../engine/build/install')).ensureEngine(); // here, where its progress is seen, rather than in some cell
  const interruption = new AbortController();
  process.once('SIGINT', () => interruption.abort());
  for (const { path, name, saved, notebook } of notebooks) {
    const progress = options.logOutput ? NO_PROGRESS : showProgress(name);
    const save = (): void => {
      if (!options.check || options.out !== undefined) writeNotebook(target(path), notebook);
    };
    const failures = await executeNotebook(notebook, {
      timeoutMs: 1000 * options.timeout,
      folder: options.cwd ?? dirname(path),
      signal: interruption.signal,
      keepGoing: options.keepGoing,
      onOutput: options.logOutput ? logOutput : undefined,
      onCell(done, total) {
        save();
        progress.to(done, total);
      },
    });
    progress.end();
    save();
    for (const failure of failures) report(name, failure);
    if (failures.length > 0) process.exitCode = 1;
    else if (options.check) await check(name, saved, notebook, options.tolerance);
    else console.log(`${name}: ${cells(notebook)} ran`);
    if (interruption.signal.aborted) {
      process.exitCode = 130;
      return;
    }
  }
}

function report(name: string, { where, ename, evalue, traceback }: CellFailure): void {
  console.error(
    `${name}: ${where} failed with ${ename}: ${evalue.split('\n')[0]}\n${traceback.map(line => `  ${line}`).join('\n')}`,
  );
}

/** The text of an output, where a person sees it while the notebook runs. Errors are told at the end. */
function logOutput({ header, content }: Message): void {
  if (header.msg_type === 'stream')
    (content.name === 'stderr' ? process.stderr : process.stdout).write(String(content.text));
  const text = (content.data as Record<string, unknown> | undefined)?.['text/plain'];
  if (typeof text === 'string' && text !== '') process.stdout.write(`${text}\n`);
}

async function check(name: string, before: Notebook, after: Notebook, tolerance: number): Promise<void> {
  const { compareNotebooks } = await import('../jupyter/notebook/compare');
  const differences = await compareNotebooks(withoutParameters(before), withoutParameters(after), tolerance);
  if (differences.length === 0) {
    console.log(`${name}: ${cells(after)} checked, no differences`);
    return;
  }
  for (const { where, before: was, after: is } of differences)
    console.error(`${name}: ${where} differs\n  - ${was}\n  + ${is}`);
  process.exitCode = 1;
}

function cells(notebook: Notebook): string {
  return counted(notebook.cells.filter(cell => cell.cell_type === 'code').length, 'cell');
}

function all(): string[] {
  const paths = readdirSync(FOLDER)
    .filter(name => name.endsWith('.ipynb'))
    .sort()
    .map(name => join(FOLDER, name));
  if (paths.length === 0) throw new UserError(`There are no notebooks in ${FOLDER}.`);
  return paths;
}

/** `03-global-sparse-attention`, or as much of it as tells it from the others, or a path. */
function find(name: string): string {
  if (name.endsWith('.ipynb')) return resolve(HERE, name);
  const known = readdirSync(FOLDER)
    .filter(file => file.endsWith('.ipynb'))
    .sort();
  const found = known.includes(`${name}.ipynb`) ? [`${name}.ipynb`] : known.filter(file => file.startsWith(name));
  if (found.length !== 1) {
    const names = known.map(file => basename(file, '.ipynb')).join(', ');
    throw new UserError(
      `'${name}' is ${found.length === 0 ? 'no' : 'the beginning of more than one'} notebook; there are ${names || 'none'}.`,
    );
  }
  return join(FOLDER, found[0]);
}

function folder(name: string): string {
  const path = resolve(HERE, name);
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory())
    throw new UserError(`--cwd is '${name}': there is no such folder.`);
  return path;
}

function addParameter(text: string, parameters = new Map<string, string>()): Map<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new UserError(`-p ${text}: a parameter is given as key=value.`);
  return parameters.set(text.slice(0, at), text.slice(at + 1));
}

interface Progress {
  to(done: number, total: number): void;
  end(): void;
}

const NO_PROGRESS: Progress = { to() {}, end() {} };

/** A live bar on a terminal. In a pipe the line that follows each notebook is enough. */
function showProgress(name: string): Progress {
  const out = process.stderr;
  if (!out.isTTY) return NO_PROGRESS;
  const started = performance.now();
  let state = 'starting the kernel';
  const draw = (): void =>
    void out.write(
      `\r\x1b[K${`${name} ${state} ${Math.round((performance.now() - started) / 1000)}s`.slice(0, (out.columns || 80) - 1)}`,
    );
  const timer = setInterval(draw, 1000);
  draw();
  return {
    to(done, total) {
      const filled = Math.round((BAR * done) / total);
      state = `[${'='.repeat(filled)}${' '.repeat(BAR - filled)}] ${done}/${total} cells`;
      draw();
    },
    end() {
      clearInterval(timer);
      out.write('\r\x1b[K');
    },
  };
}
