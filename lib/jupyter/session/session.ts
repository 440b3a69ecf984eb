import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { constants, Script } from 'node:vm';
import { Compiler } from './compiler';
import { Modules } from './modules';
import { cellName, compileFailure, type Failure, failure, Interrupted, type Source } from './traceback';

export type Outcome =
  | { status: 'ok'; result?: { data: Record<string, unknown>; metadata: Record<string, unknown> } }
  | ({ status: 'error' } & Failure);

type CellBody = (exports: object, require: (id: string) => unknown, cell: object) => Promise<void>;

const ENTER = Symbol.for('edgevit-lab.enter');
const enter = new Script(`globalThis[Symbol.for(${JSON.stringify(ENTER.description)})]()`, { filename: 'node:cell' });
const HEAD = '(async function (exports, require, __cell__) { ';

/** The state of a notebook's cells: their variables and types, and the cell that runs. One cell at a time. */
export class Session {
  private readonly compiler: Compiler;
  private readonly modules: Modules;
  /** Of all cells. */
  private readonly variables: Record<string, unknown> = {};
  private readonly exports = declaring(this.variables);
  private declarations = '';
  private readonly cells = new Map<number, Source>();

  private finish: ((outcome: Outcome) => void) | undefined;
  private interruption = new AbortController();
  private readonly waiting = new Set<(reason: Interrupted) => void>();
  private readonly unfinished = new Set<Promise<unknown>>();
  private background: unknown[] = [];

  /**
   * `root` must be the working directory. `userCodeRuns` is told whether code of a cell may run now.
   * `reportLate` gets the errors that code of a cell leaves behind when no cell runs.
   */
  constructor(
    private readonly root: string,
    private readonly userCodeRuns: (runs: boolean) => void,
    private readonly reportLate: (failure: Failure) => void,
  ) {
    this.compiler = new Compiler(root);
    this.modules = new Modules(root);
  }

  /** Aborted when the cell that runs is interrupted. */
  get signal(): AbortSignal {
    return this.interruption.signal;
  }

  execute(code: string, cell: number): Promise<Outcome> {
    this.interruption = new AbortController();
    this.background = [];
    return new Promise(resolve => {
      this.finish = outcome => {
        this.finish = undefined;
        this.userCodeRuns(false);
        this.modules.settle();
        resolve(outcome);
      };
      const finish = this.finish;
      this.run(code, cell).then(finish, (thrown: unknown) => finish({ status: 'error', ...this.describe(thrown) }));
    });
  }

  /** Ends the cell at its next wait, by an error that its `finally` blocks see. */
  interrupt(): void {
    if (!this.finish) return;
    const reason = new Interrupted('the cell was interrupted');
    this.interruption.abort(reason);
    for (const reject of this.waiting) reject(reason);
    this.waiting.clear();
  }

  /** What the cell was doing has been ended by V8, and will never settle. */
  terminated(): void {
    this.finish?.({
      status: 'error',
      ...this.describe(
        new Interrupted('the cell was interrupted; it did not give way, so what it was changing may be half done'),
      ),
    });
  }

  /** The cell ends after this work, and fails if it fails. */
  settle(work: Promise<unknown>): void {
    const settled = work
      .then(
        () => {},
        (error: unknown) => void this.background.push(error),
      )
      .finally(() => this.unfinished.delete(settled));
    this.unfinished.add(settled);
  }

  /** An uncaught exception or an unhandled rejection: it fails the cell that runs. */
  backgroundError(error: unknown): void {
    if (error instanceof Interrupted) return;
    if (this.finish) this.background.push(error);
    else this.reportLate(this.describe(error));
  }

  /** `position` counts code points, as Jupyter does. */
  complete(code: string, position: number): { matches: string[]; cursor_start: number; cursor_end: number } {
    const { start, end, candidates } = this.compiler.complete(code, this.declarations, units(code, position));
    return { matches: candidates, cursor_start: codePoints(code, start), cursor_end: codePoints(code, end) };
  }

  /** `position` counts code points, as Jupyter does. */
  inspect(code: string, position: number): string | undefined {
    return this.compiler.inspect(code, this.declarations, units(code, position));
  }

  isComplete(code: string): { completed: boolean; indent?: string } {
    return this.compiler.isComplete(code);
  }

  private async run(code: string, cell: number): Promise<Outcome> {
    const compiled = this.compiler.compile(code, this.declarations);
    if (Array.isArray(compiled))
      return {
        status: 'error',
        ...compileFailure(compiled, cell, code, file => readFileSync(join(this.root, file), 'utf8')),
      };
    this.declarations = compiled.declarations; // also of a cell that will fail: what it has set by then is there
    this.cells.set(cell, { code, original: compiled.original });
    this.modules.refresh();
    await this.modules.prepare(compiled.js);
    await nextTurn(); // an interrupt may have come while the compiler held the thread
    this.signal.throwIfAborted();

    this.userCodeRuns(true);
    const script = new Script(`${HEAD}${compiled.js}\n})`, {
      filename: cellName(cell),
      columnOffset: -HEAD.length,
      importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    });
    const body = script.runInThisContext() as CellBody;
    Object.assign(globalThis, {
      [ENTER]: () =>
        body(this.exports, this.modules.require, {
          variables: this.variables,
          share: this.share,
          wait: this.wait,
          each: this.each,
        }),
    });
    await enter.runInThisContext({ breakOnSigint: true });
    const value = compiled.lastExpression && (await this.wait(this.take(compiled.lastExpression)));
    while (this.unfinished.size > 0) await this.wait(Promise.all(this.unfinished));
    await nextTurn(); // rejections that nobody handles are known by now
    if (this.background.length > 0) throw this.background[0];
    if (value === undefined || value === null) return { status: 'ok' };
    return { status: 'ok', result: { data: { 'text/plain': inspect(value) }, metadata: {} } };
  }

  private take(name: string): unknown {
    const value = this.variables[name];
    delete this.variables[name];
    return value;
  }

  private describe(thrown: unknown): Failure {
    const interrupted = (thrown as NodeJS.ErrnoException | undefined)?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED';
    return failure(interrupted ? new Interrupted('the cell was interrupted') : thrown, this.root, this.cells);
  }

  /** A `let` of a cell is one variable for all cells: those that change it and the functions that were declared beside it. */
  private readonly share = (name: string, get: () => unknown, set: (value: unknown) => void): void => {
    Object.defineProperty(this.variables, name, { get, set, enumerable: true, configurable: true });
  };

  private readonly wait = <T>(value: T | PromiseLike<T>): T | Promise<T> => {
    if (typeof (value as PromiseLike<T> | undefined)?.then !== 'function') return value as T;
    return new Promise<T>((resolve, reject) => {
      this.waiting.add(reject);
      Promise.resolve(value)
        .then(resolve, reject)
        .finally(() => this.waiting.delete(reject));
    });
  };

  private readonly each = async function* <T>(
    this: Session,
    values: AsyncIterable<T> | Iterable<T | PromiseLike<T>>,
  ): AsyncGenerator<T> {
    const iterator =
      (values as AsyncIterable<T>)[Symbol.asyncIterator]?.() ?? (values as Iterable<T>)[Symbol.iterator]();
    try {
      for (let step = await this.wait(iterator.next()); !step.done; step = await this.wait(iterator.next()))
        yield await this.wait(step.value);
    } finally {
      await iterator.return?.();
    }
  }.bind(this);
}

/**
 * What a cell declares: a new variable, also where an earlier cell has one of that name, whose functions keep theirs. TypeScript defines what a
 * cell imports as read-only getters; here a later cell may set it again.
 */
function declaring(variables: Record<string, unknown>): object {
  const declare = (name: string | symbol, value: unknown): boolean =>
    Reflect.defineProperty(variables, name, { value, writable: true, enumerable: true, configurable: true });
  return new Proxy(variables, {
    set: (_target, name, value) => declare(name, value),
    defineProperty: (_target, name, { get, value }) => name === '__esModule' || declare(name, get ? get() : value),
  });
}

function units(text: string, codePointCount: number): number {
  return Array.from(text).slice(0, codePointCount).join('').length;
}

function codePoints(text: string, unitCount: number): number {
  return Array.from(text.slice(0, unitCount)).length;
}
