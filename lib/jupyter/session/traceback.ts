import { describe } from '../display/text';
import type { Position, Problem } from './compiler';
import { cellName, type Frames, isInCell } from './frames';

/** What Jupyter calls an error: its name, its message, and the lines that a person reads. */
export type Failure = {
  ename: string;
  evalue: string;
  traceback: string[];
};

/** The cell was interrupted. */
export class Interrupted extends Error {
  override name = 'Interrupted';
}

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
export function failure(thrown: unknown, stacks: Frames, background?: number): Failure {
  let excerpt: string[] = [];
  const frames = (stack: unknown): string[] => {
    const text = typeof stack === 'string' ? stack : '';
    const start = text.search(/^ {4}at /m);
    const lines = start < 0 ? [] : text.slice(start).split('\n');
    // V8 shows code that it cannot parse, and no frame.
    const [, place, before] = /^(\S+:\d+)\n.*\n( *)\^/.exec(text) ?? [];
    if (before !== undefined) lines.unshift(`    at ${place}:${before.length + 1}`);
    return lines.flatMap(
      line =>
        stacks.clean(line, (code, position) => {
          if (excerpt.length === 0) excerpt = codeFrame(code, position);
        }) ?? [],
    );
  };
  const inspected = (value: unknown): string => stacks.cleanText(describe(value));
  const seen = new Set<unknown>();
  const clean = (error: Error): string[] => {
    seen.add(error);
    const { name, message } = nameAndMessage(error);
    const lines = frames(read(error, 'stack'));
    if (!lines.some(isInCell)) lines.push(...frames(waits.get(error)?.stack).filter(isInCell).map(asynchronous));
    const properties = ownProperties(error);
    const text = [
      ...(message === '' ? name : `${name}: ${message}`).split('\n'),
      ...lines,
      ...(properties === undefined
        ? []
        : inspected(properties)
            .split('\n')
            .map(line => `    ${line}`)),
    ];
    const also = (title: string, value: unknown): void => {
      if (seen.has(value) || seen.size > MAX_DEPTH) return;
      const [first, ...rest] = isError(value) ? clean(value) : inspected(value).split('\n');
      text.push(`${title} ${first}`, ...rest);
    };
    const members = read(error, 'errors');
    if (Array.isArray(members)) for (const [i, member] of members.entries()) also(`[${i}]`, member);
    // Of a `using` whose disposal failed as well.
    for (const name of has(error, 'suppressed') ? ['error', 'suppressed'] : []) also(`[${name}]`, read(error, name));
    if (has(error, 'cause')) also('Caused by', read(error, 'cause'));
    return text;
  };
  if (!isError(thrown)) {
    const evalue = inspected(thrown);
    const noted = typeof thrown === 'object' && thrown !== null ? frames(waits.get(thrown)?.stack) : [];
    return {
      ename: 'Error',
      evalue,
      traceback: [`Uncaught ${evalue}`, ...noted, ...(excerpt.length ? ['', ...excerpt] : [])],
    };
  }
  const { name, message } = nameAndMessage(thrown);
  const traceback = clean(thrown);
  if (background !== undefined) traceback.push(`(in the background, from work that ${cellName(background)} began)`);
  return { ename: name, evalue: message, traceback: excerpt.length > 0 ? [...traceback, '', ...excerpt] : traceback };
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
    message: typeof message === 'string' ? message : message === undefined ? '' : describe(message),
  };
}

/** What an error carries beside its message, as `code` or `path`. */
function ownProperties(error: Error): object | undefined {
  const told = [
    'name',
    'message',
    'stack',
    'cause',
    'errors',
    ...(has(error, 'suppressed') ? ['error', 'suppressed'] : []),
  ];
  try {
    const names = Object.keys(error).filter(name => !told.includes(name));
    return names.length === 0 ? undefined : Object.fromEntries(names.map(name => [name, read(error, name)]));
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
