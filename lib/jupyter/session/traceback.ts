import { sep } from 'node:path';
import { inspect } from 'node:util';
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
const KERNEL_FRAME =
  /\bnode:|\blib[\\/]kernel[\\/](session|kernel|modules|traceback)\.ts|[\\/]tsx[\\/]dist[\\/]|[\\/]tslab[\\/]dist[\\/]|\(<anonymous>\)$/;

/** A thrown value as a failure: positions are those of the cell's TypeScript, paths are relative to the project, and the kernel's own frames are gone. */
export function failure(thrown: unknown, root: string, cells: ReadonlyMap<number, Source>): Failure {
  if (!(thrown instanceof Error)) {
    const evalue = inspect(thrown);
    return { ename: 'Error', evalue, traceback: [`Uncaught ${evalue}`] };
  }
  let frame: string[] = [];
  const clean = (error: Error): string[] => {
    const stack = error.stack ?? '';
    const start = stack.search(/^ {4}at /m);
    const lines: string[] = [];
    for (const line of start < 0 ? [] : stack.slice(start).split('\n')) {
      const [inCell, cell, row, column] = CELL_FRAME.exec(line) ?? [];
      if (!inCell) {
        if (!KERNEL_FRAME.test(line)) lines.push(line.replace('file://', '').replace(root + sep, ''));
        continue;
      }
      const source = cells.get(Number(cell));
      const position = source?.original(Number(row), Number(column));
      if (!source || !position) continue; // code of the compiler's
      lines.push(line.replace(inCell, `${cellName(Number(cell))}:${position.line}:${position.column}`));
      if (frame.length === 0) frame = codeFrame(source.code, position);
    }
    const cause = error.cause instanceof Error ? clean(error.cause) : [];
    if (cause.length > 0) cause[0] = `Caused by ${cause[0]}`;
    return [...`${error.name}: ${error.message}`.split('\n'), ...lines, ...cause];
  };
  const traceback = clean(thrown);
  return {
    ename: thrown.name,
    evalue: thrown.message,
    traceback: frame.length > 0 ? [...traceback, '', ...frame] : traceback,
  };
}

/** What the compiler refused. `readModule` gives the text of a file of the project. */
export function compileFailure(
  problems: readonly Problem[],
  cell: number,
  code: string,
  readModule: (file: string) => string,
): Failure {
  const traceback = problems.flatMap(({ file, line, column, message }) => [
    `${file ?? cellName(cell)}:${line}:${column} ${message}`,
    ...codeFrame(file === undefined ? code : readModule(file), { line, column }),
  ]);
  return { ename: 'TypeScriptError', evalue: traceback[0], traceback };
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
