import { dirname, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe as inspectTotally } from '../display/text';
import type { Position, Problem } from './compiler';

/** What Jupyter calls an error: its name, its message, and the lines that a person reads. */
export type Failure = {
  ename: string;
  evalue: string;
  traceback: string[];
};

export interface Source {
  code: string;
  original(line: number, column: number): Position | undefined;
}

/** The cell was interrupted. */
export class Interrupted extends Error {
  override name = 'Interrupted';
}

/** The name of a cell in stack traces. */
export const cellName = (cell: number): string => `cell[${cell}]`;

const CELL_FRAME = /cell\[(\d+)\]:(\d+):(\d+)/;
const JUPYTER = dirname(__dirname);
/** Frames that tell nobody anything: of Node, of what loads TypeScript, and of the kernel itself (but not of its display). */
const NOISE = [/\bnode:/, /[\\/]tsx[\\/]dist[\\/]/, /[\\/]tslab[\\/]dist[\\/]/, /\(<anonymous>\)$/];
const MACHINERY = ['session', 'protocol'].map(room => `${JUPYTER}${sep}${room}${sep}`);
/** Of causes of causes. */
const MAX_DEPTH = 8;

/** Where code of a cell waited for what failed: V8 follows no promise through the kernel's own. */
const waits = new WeakMap<object, { stack?: string }>();

/** Notes the stack below `above`, to be told with an error that comes later. */
export function waitedAt(above: (...args: never[]) => unknown): { of(error: unknown): void } {
  const here: { stack?: string } = {};
  Error.captureStackTrace(here, above);
  return {
    of(error) {
      if (typeof error === 'object' && error !== null && !waits.has(error)) waits.set(error, here);
    },
  };
}

/**
 * A thrown value as a failure: positions are those of the cell's TypeScript, paths are relative to the project, and the kernel's own frames are
 * gone. Never throws, whatever the value does. `background` is the cell that began the work, if it has ended.
 */
export function failure(
  thrown: unknown,
  root: string,
  cells: ReadonlyMap<number, Source>,
  background?: number,
): Failure {
  let frame: string[] = [];
  const place = (line: string): string | undefined => {
    const [inCell, cell, row, column] = CELL_FRAME.exec(line) ?? [];
    if (!inCell) {
      if (NOISE.some(pattern => pattern.test(line)) || MACHINERY.some(path => line.includes(path))) return undefined;
      return line.replace(/file:\/\/[^\s):]*/, url => fileURLToPath(url)).replace(root + sep, '');
    }
    const source = cells.get(Number(cell));
    const position = source?.original(Number(row), Number(column));
    if (!source || !position) return undefined; // code of the compiler's
    if (frame.length === 0) frame = codeFrame(source.code, position);
    return line.replace(inCell, `${cellName(Number(cell))}:${position.line}:${position.column}`);
  };
  const frames = (stack: unknown): string[] => {
    const text = typeof stack === 'string' ? stack : '';
    const start = text.search(/^ {4}at /m);
    const lines = start < 0 ? [] : text.slice(start).split('\n');
    return lines.map(place).filter((line): line is string => line !== undefined);
  };
  const seen = new Set<unknown>();
  const clean = (error: Error): string[] => {
    seen.add(error);
    const { name, message } = nameAndMessage(error);
    const lines = frames(read(error, 'stack'));
    if (!lines.some(line => CELL_FRAME.test(line)))
      lines.push(
        ...frames(waits.get(error)?.stack)
          .filter(line => CELL_FRAME.test(line))
          .map(asynchronous),
      );
    const properties = ownProperties(error);
    const text = [
      ...(message === '' ? name : `${name}: ${message}`).split('\n'),
      ...lines,
      ...(properties === undefined ? [] : properties.split('\n').map(line => `    ${line}`)),
    ];
    const also = (title: string, value: unknown): void => {
      if (seen.has(value) || seen.size > MAX_DEPTH) return;
      const [first, ...rest] = isError(value) ? clean(value) : inspectTotally(value).split('\n');
      text.push(`${title} ${first}`, ...rest);
    };
    const members = read(error, 'errors');
    if (Array.isArray(members)) for (const [i, member] of members.entries()) also(`[${i}]`, member);
    if (has(error, 'cause')) also('Caused by', read(error, 'cause'));
    return text;
  };
  if (!isError(thrown)) {
    const evalue = inspectTotally(thrown);
    const noted = typeof thrown === 'object' && thrown !== null ? frames(waits.get(thrown)?.stack) : [];
    return {
      ename: 'Error',
      evalue,
      traceback: [`Uncaught ${evalue}`, ...noted, ...(frame.length ? ['', ...frame] : [])],
    };
  }
  const { name, message } = nameAndMessage(thrown);
  const traceback = clean(thrown);
  if (background !== undefined) traceback.push(`(in the background, from work that ${cellName(background)} began)`);
  return { ename: name, evalue: message, traceback: frame.length > 0 ? [...traceback, '', ...frame] : traceback };
}

const asynchronous = (line: string): string => line.replace(/^ {4}at (?!async )/, '    at async ');

/** Also of another realm; what only calls itself an error is none. */
function isError(value: unknown): value is Error {
  try {
    return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]';
  } catch {
    return false;
  }
}

/** A property, or nothing if it cannot be read. */
function read(error: object, name: string): unknown {
  try {
    return (error as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
}

function has(error: object, name: string): boolean {
  try {
    return Object.hasOwn(error, name);
  } catch {
    return false;
  }
}

function nameAndMessage(error: Error): { name: string; message: string } {
  const [name, message] = ['name', 'message'].map(property => read(error, property));
  return {
    name: typeof name === 'string' && name !== '' ? name : 'Error',
    message: typeof message === 'string' ? message : message === undefined ? '' : inspectTotally(message),
  };
}

/** What an error carries beside its message, as `code` or `path`. */
function ownProperties(error: Error): string | undefined {
  try {
    const told = ['name', 'message', 'stack', 'cause', 'errors'];
    const entries = Object.keys(error)
      .filter(name => !told.includes(name))
      .map(name => [name, read(error, name)]);
    return entries.length === 0 ? undefined : inspectTotally(Object.fromEntries(entries));
  } catch {
    return undefined;
  }
}

/** What the compiler says of a cell. */
export function compileFailure(problems: readonly Problem[], cell: number): Failure {
  const traceback = problems.flatMap(({ file, line, column, message, source }) => [
    `${file ?? cellName(cell)}:${line}:${column} ${message}`,
    ...codeFrame(source, { line, column }),
  ]);
  return { ename: 'TypeScriptError', evalue: traceback[0] ?? '', traceback };
}

/** The line, the one before and the one after, with a caret under the column. */
function codeFrame(code: string, { line, column }: Position): string[] {
  const lines = code.split('\n');
  const width = String(Math.min(line + 1, lines.length)).length;
  const frame: string[] = [];
  for (let number = Math.max(1, line - 1); number <= Math.min(lines.length, line + 1); number++) {
    frame.push(`${number === line ? '>' : ' '} ${String(number).padStart(width)} | ${lines[number - 1]}`);
    if (number === line) frame.push(`  ${' '.repeat(width)} | ${' '.repeat(column - 1)}^`);
  }
  return frame;
}
