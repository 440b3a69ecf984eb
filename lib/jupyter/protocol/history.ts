import { appendFileSync, closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** A session, the number of a cell in it, and what was typed; with its result where that was asked for. */
type Entry = [session: number, line: number, input: string | [input: string, output: string | null]];

export const historySchema = z.object({
  hist_access_type: z.enum(['range', 'tail', 'search']).default('tail'),
  output: z.boolean().default(false),
  session: z.number().int().default(0),
  start: z.number().int().default(0),
  stop: z.number().int().nullish(),
  n: z.number().int().min(0).nullish(),
  pattern: z.string().default('*'),
  unique: z.boolean().default(false),
});

const KEPT_SESSIONS = 1000;
const FILE = /^(\d+)\.jsonl$/;

/** What was typed in this kernel and in those before: a file for each, made when its first cell runs. */
export class History {
  private session = 0;
  private readonly lines = new Map<number, string>();
  private readonly results = new Map<number, string>();

  /** Without a folder only this session's is kept. */
  constructor(private readonly folder: string | undefined) {}

  add(line: number, input: string): void {
    this.lines.set(line, input);
    if (this.folder === undefined) return;
    try {
      if (this.session === 0) this.session = this.begin(this.folder);
      appendFileSync(this.file(this.session), `${JSON.stringify([line, input])}\n`);
    } catch {
      // a full or read-only disk is no reason not to run a cell
    }
  }

  result(line: number, text: string): void {
    this.results.set(line, text);
  }

  find({ hist_access_type, output, session, start, stop, n, pattern, unique }: z.infer<typeof historySchema>): Entry[] {
    const sessions = this.sessions();
    const of = (number: number): Entry[] =>
      this.read(number).map(([line, input]) => {
        const result = number === this.session ? (this.results.get(line) ?? null) : null;
        return [number, line, output ? [input, result] : input];
      });
    if (hist_access_type === 'range') {
      const wanted = session > 0 ? session : sessions.at(session - 1);
      return wanted === undefined ? [] : of(wanted).filter(([, line]) => line >= start && line < (stop ?? Infinity));
    }
    const matches = hist_access_type === 'search' ? glob(pattern) : /^/;
    const found: Entry[] = [];
    const seen = new Set<string>();
    for (const number of sessions.reverse()) {
      for (const entry of of(number).reverse()) {
        if (n !== undefined && n !== null && found.length >= n) return found.reverse();
        const input = typeof entry[2] === 'string' ? entry[2] : entry[2][0];
        if (!matches.test(input) || (unique && seen.has(input))) continue;
        seen.add(input);
        found.push(entry);
      }
    }
    return found.reverse();
  }

  /** A number that no other kernel has, by the first to make its file. */
  private begin(folder: string): number {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const before = this.sessions();
    for (const old of before.slice(0, -KEPT_SESSIONS)) rmSync(this.file(old), { force: true });
    for (let number = (before.at(-1) ?? 0) + 1; ; number++) {
      try {
        closeSync(openSync(this.file(number), 'wx', 0o600));
        return number;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
  }

  /** Numbers of the sessions that there are, the oldest first; this one is the last even if another has begun since. */
  private sessions(): number[] {
    const names = this.folder !== undefined && existsSync(this.folder) ? readdirSync(this.folder) : [];
    const numbers = names.flatMap(name => FILE.exec(name)?.[1] ?? []).map(Number);
    return [
      ...numbers.filter(number => number !== this.session).sort((a, b) => a - b),
      ...(this.lines.size ? [this.session] : []),
    ];
  }

  private read(session: number): [line: number, input: string][] {
    if (session === this.session) return [...this.lines];
    try {
      const lines = readFileSync(this.file(session), 'utf8').split('\n');
      return lines.filter(line => line !== '').map(line => JSON.parse(line));
    } catch {
      return []; // removed by another kernel, or damaged
    }
  }

  private file(session: number): string {
    return join(this.folder ?? '', `${String(session).padStart(6, '0')}.jsonl`);
  }
}

/** `*` is any text, `?` any character. */
function glob(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '[^]*')
    .replace(/\?/g, '[^]');
  return new RegExp(`^${source}$`);
}
