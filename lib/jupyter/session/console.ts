import { Console } from 'node:console';
import { PassThrough } from 'node:stream';
import { inspect } from 'node:util';
import { escapeHtml } from '../../util/html';
import { knowTensors } from '../display/rich';

export interface ConsoleOutput {
  display(data: Record<string, unknown>): void;
  /** A stack trace without the kernel's frames. */
  cleanStack(error: Error): string;
}

/** `console.table` as a table, `console.trace` without the kernel's frames, and tensors that say what they hold. */
export function provideConsole({ display, cleanStack }: ConsoleOutput): { endGroups(): void } {
  const { table } = console;
  console.table = (rows: unknown, columns?: readonly string[]): void => {
    if (typeof rows !== 'object' || rows === null) {
      table(rows);
      return;
    }
    knowTensors(rows);
    const text = printed(plain => plain.table(rows, columns === undefined ? undefined : [...columns]));
    display({ 'text/plain': text.trimEnd(), 'text/html': htmlTable(rows, columns) });
  };
  console.trace = (...message: unknown[]): void => {
    const trace = new Error('Trace');
    Error.captureStackTrace(trace, console.trace);
    const [, ...frames] = cleanStack(trace)
      .split('\n')
      .filter(line => !line || line.startsWith('    at ') || !/^[> ] *\d* *\|/.test(line));
    const text = message.length > 0 ? `Trace: ${printed(plain => plain.log(...message)).trimEnd()}` : 'Trace';
    console.error([text, ...frames.filter(line => line !== '')].join('\n'));
  };
  for (const name of ['log', 'info', 'debug', 'warn', 'error', 'dir'] as const) {
    const print = console[name].bind(console) as (...values: unknown[]) => void;
    console[name] = (...values: unknown[]): void => {
      knowTensors(...values);
      print(...values);
    };
  }
  let depth = 0;
  for (const name of ['group', 'groupCollapsed'] as const) {
    const begin = console[name].bind(console);
    console[name] = (...label: unknown[]): void => {
      depth++;
      begin(...label);
    };
  }
  const end = console.groupEnd.bind(console);
  console.groupEnd = (): void => {
    depth = Math.max(0, depth - 1);
    end();
  };
  return {
    endGroups() {
      while (depth > 0) console.groupEnd();
    },
  };
}

/** What a console would write. */
function printed(print: (plain: Console) => void): string {
  const stream = new PassThrough();
  print(new Console(stream));
  return String(stream.read() ?? '');
}

function htmlTable(rows: object, only: readonly string[] | undefined): string {
  const entries: [string, unknown][] =
    rows instanceof Map
      ? [...rows].map(([key, value]) => [inspect(key), value])
      : rows instanceof Set
        ? [...rows].map((value, i) => [String(i), value])
        : Object.entries(rows);
  const isRecord = (value: unknown): value is object => typeof value === 'object' && value !== null;
  const columns = only ?? [...new Set(entries.flatMap(([, row]) => (isRecord(row) ? Object.keys(row) : [])))];
  const hasValues = entries.some(([, row]) => !isRecord(row));
  const text = (value: unknown): string =>
    typeof value === 'string' ? value : inspect(value, { depth: 0, breakLength: Infinity });
  const body = entries.map(([key, row]) => [
    key,
    ...columns.map(column => (isRecord(row) && column in row ? text((row as Record<string, unknown>)[column]) : '')),
    ...(hasValues ? [isRecord(row) ? '' : text(row)] : []),
  ]);
  const line = (tag: string, cells: readonly string[]): string =>
    `<tr>${cells.map((cell, i) => `<${i === 0 ? 'th' : tag}>${escapeHtml(cell)}</${i === 0 ? 'th' : tag}>`).join('')}</tr>`;
  const head = line('th', ['', ...columns, ...(hasValues ? ['value'] : [])]);
  return `<table>\n<thead>${head}</thead>\n<tbody>\n${body.map(row => line('td', row)).join('\n')}\n</tbody>\n</table>`;
}
