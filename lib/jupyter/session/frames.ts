import { dirname, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Position } from './compiler';

export interface Source {
  code: string;
  original(line: number, column: number): Position | undefined;
}

/** The name of a cell, as a person reads it. */
export const cellName = (cell: number): string => `cell[${cell}]`;
/** That of its JavaScript, as V8's stacks have it: so a place that was found already is told from one that is yet to be. */
export const scriptName = (cell: number): string => `${cellName(cell)}.js`;

const IN_SCRIPT = /cell\[(\d+)\]\.js:(\d+):(\d+)/;
const JUPYTER = dirname(__dirname);
/** Frames that tell nobody anything: of Node, of what loads TypeScript, and of the kernel itself (but not of its display). */
const NOISE = [/\bnode:/, /[\\/]tsx[\\/]dist[\\/]/, /[\\/]tslab[\\/]dist[\\/]/, /\(<anonymous>\)$/];
const MACHINERY = ['session', 'protocol'].map(room => `${JUPYTER}${sep}${room}${sep}`);

/** Whether a frame that was cleaned is in a cell. */
export const isInCell = (frame: string): boolean => /cell\[\d+\]:\d+:\d+/.test(frame);

/** The stacks of a session, as a person wants to see them: positions are those of the cells' TypeScript, paths are relative to `root`. */
export class Frames {
  constructor(
    private readonly root: string,
    private readonly cells: ReadonlyMap<number, Source>,
  ) {}

  /** Nothing for a frame that tells nobody anything. `onCell` gets the source of one that is in a cell. */
  clean(line: string, onCell: (code: string, position: Position) => void = () => {}): string | undefined {
    const [inScript, cell, row, column] = IN_SCRIPT.exec(line) ?? [];
    if (!inScript) {
      if (NOISE.some(pattern => pattern.test(line)) || MACHINERY.some(path => line.includes(path))) return undefined;
      return line.replace(/file:\/\/[^\s):]*/, url => fileURLToPath(url)).replace(this.root + sep, '');
    }
    const source = this.cells.get(Number(cell));
    const position = source?.original(Number(row), Number(column));
    if (!source || !position) return undefined; // code of the compiler's
    onCell(source.code, position);
    return line.replace(inScript, `${cellName(Number(cell))}:${position.line}:${position.column}`);
  }

  /** A text with stacks in it, as `console.log(error)` prints and `util.inspect` makes. One that leads into no cell stays as it is. */
  cleanText(text: string): string {
    if (!IN_SCRIPT.test(text)) return text;
    const lines: string[] = [];
    for (const line of text.split('\n')) {
      if (/^\s*\.{3} \d+ lines matching cause stack trace \.{3}$/.test(line)) continue; // the cause has those of them that are left
      // What follows the last frame belongs to the object around it.
      const [, frame, behind = ''] = /^(\s*at .*?)( \{|,)?$/.exec(line) ?? [];
      const cleaned = frame === undefined ? line : this.clean(frame);
      if (cleaned !== undefined) lines.push(cleaned + behind);
      else if (lines.length > 0) lines.push(lines.pop() + behind);
    }
    return lines.join('\n');
  }
}
