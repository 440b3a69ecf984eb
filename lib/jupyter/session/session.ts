import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { constants, Script } from 'node:vm';
import { type Rich, rich } from '../display/rich';
import type { Kind } from './cellModule';
import { Compiler, type CompilerOptions, type Problem } from './compiler';
import type { Completeness } from './editor';
import { Frames, type Source, scriptName } from './frames';
import { Modules } from './modules';
import { OwnerStorage } from './owner';
import type { Place } from './place';
import { compileFailure, type Failure, failure, Interrupted, waitedAt } from './traceback';

export type Outcome = { status: 'ok'; result?: Rich } | ({ status: 'error' } & Failure);

type CellBody = (
  ...parameters: [exports: object, require: unknown, scope: CellScope, file: string, folder: string]
) => () => Promise<void>;

/** What a cell's code reaches as `__cell__`: see transform.ts. */
interface CellScope {
  variables: object;
  exports: object;
  require: unknown;
  share(name: string, get: () => unknown, set: (value: unknown) => void): void;
  wait<T>(value: T | PromiseLike<T>): T | Promise<T>;
  each(values: AsyncIterable<unknown> | Iterable<unknown>): AsyncGenerator<unknown>;
  import(specifier: unknown, options?: ImportCallOptions): Promise<unknown>;
  meta: object;
  result(value: unknown): void;
}

/** One execution of a cell, and what it leaves in the background. */
class CellRun {
  state: 'running' | 'ok' | 'failed' | 'interrupted' = 'running';
  value: unknown;
  readonly interruption = new AbortController();
  readonly waiting = new Set<(reason: Interrupted) => void>();
  readonly unfinished = new Set<Promise<unknown>>();
  readonly background: unknown[] = [];

  /** `request` is what the outputs belong to; `cell` its number, 0 for code that is no cell. */
  constructor(
    readonly request: number,
    readonly cell: number,
  ) {}
}

export interface SessionOptions extends CompilerOptions {
  place: Place;
  /** Modules that the kernel provides. */
  provided?: ReadonlyMap<string, unknown>;
  /** Sees what cells load. */
  onLoad?: (exports: unknown) => void;
  /** Told whether code of a cell may run now. */
  userCodeRuns: (runs: boolean) => void;
  /** Gets the errors that code of a cell leaves behind when it has ended. */
  reportLate: (failure: Failure, request: number) => void;
  /** Gets what the compiler says of a cell and does not refuse. */
  warn: (text: string) => void;
}

const ENTER = Symbol.for('edgevit-lab.enter');
const enter = new Script(`globalThis[Symbol.for(${JSON.stringify(ENTER.description)})]()`, { filename: 'node:cell' });
/** A function within the one that has the parameters: a cell may declare a `require` or `__dirname` of its own. */
const HEAD = '(function (exports, require, __cell__, __filename, __dirname) { return async function () { ';
const TAIL = '\n} })';

/** The state of a notebook's cells: their variables and types, and the cell that runs. One cell at a time. */
export class Session {
  private readonly compiler: Compiler;
  private readonly modules: Modules;
  /** Of all cells. */
  private readonly variables: Record<string, unknown> = {};
  private readonly exports = declaring(this.variables);
  private readonly cells = new Map<number, Source>();
  private readonly frames: Frames;
  private readonly meta: object;

  private current: CellRun | undefined;
  private finish: ((outcome: Outcome) => void) | undefined;
  /** Of the code that runs: also of a timer or a callback that a cell has left in the background. */
  private readonly owner = new OwnerStorage<CellRun>();

  /** Reads the project's settings; the compiler starts with the first cell. */
  constructor(private readonly options: SessionOptions) {
    const { place, provided, onLoad } = options;
    this.frames = new Frames(place.project, this.cells);
    this.compiler = new Compiler(place, options);
    this.modules = new Modules(place, provided, onLoad);
    this.meta = {
      url: pathToFileURL(this.file).href,
      filename: this.file,
      dirname: place.folder,
      resolve: (id: string) => pathToFileURL(this.modules.require.resolve(id)).href,
    };
  }

  /** Aborted when the cell whose code asks is interrupted. */
  get signal(): AbortSignal {
    return (this.run ?? new CellRun(0, 0)).interruption.signal;
  }

  /** The request whose code runs: what is printed now belongs to it. */
  get request(): number | undefined {
    return this.run?.request;
  }

  execute(code: string, cell: number, request: number): Promise<Outcome> {
    const run = new CellRun(request, cell);
    this.current = run;
    return new Promise(resolve => {
      const finish = (outcome: Outcome): void => {
        if (this.finish !== finish) return; // ended already, by force
        this.finish = undefined;
        this.userCodeRuns(false);
        this.modules.settle();
        resolve(outcome);
      };
      this.finish = finish;
      this.owner
        .run(run, () => this.runCell(code, run))
        .then(finish, (thrown: unknown) => finish(this.fail(run, thrown)));
    });
  }

  /** Ends the cell at its next wait, by an error that its `finally` blocks see. */
  interrupt(): void {
    const run = this.current;
    if (!run || !this.finish) return;
    const reason = new Interrupted('the cell was interrupted');
    run.interruption.abort(reason);
    for (const reject of run.waiting) reject(reason);
    run.waiting.clear();
  }

  /** What the cell was doing has been ended by V8, and will never settle. */
  terminated(): void {
    if (!this.current) return;
    const reason = 'the cell was interrupted; it did not give way, so what it was changing may be half done';
    this.finish?.(this.fail(this.current, new Interrupted(reason)));
  }

  /** The cell that asks ends after this work, and fails if it fails. */
  settle(work: Promise<unknown>): void {
    const { run } = this;
    if (!run) return;
    const here = waitedAt(this.settle);
    const settled = work
      .then(
        () => {},
        (error: unknown) => {
          here.of(error);
          this.failedBehind(run, error);
        },
      )
      .finally(() => run.unfinished.delete(settled));
    run.unfinished.add(settled);
  }

  /** An uncaught exception or an unhandled rejection: it fails the cell that began it if that still runs, and no other. */
  backgroundError(error: unknown): void {
    if (error instanceof Interrupted) return;
    const { run } = this;
    if (run) this.failedBehind(run, error);
    else this.options.reportLate(this.describe(error), 0);
  }

  /** `position` counts code points, as Jupyter does. */
  complete(code: string, position: number): { matches: string[]; cursor_start: number; cursor_end: number } {
    const { start, end, candidates } = this.compiler.complete(code, units(code, position));
    return { matches: candidates, cursor_start: codePoints(code, start), cursor_end: codePoints(code, end) };
  }

  /** `position` counts code points, as Jupyter does. */
  inspect(code: string, position: number): string | undefined {
    return this.compiler.inspect(code, units(code, position));
  }

  isComplete(code: string): Completeness {
    return this.compiler.isComplete(code);
  }

  /** A stack trace as a person wants to see it. */
  cleanStack(error: Error): string {
    return failure(error, this.frames).traceback.join('\n');
  }

  /** The same for those within a text. */
  cleanStacks(text: string): string {
    return this.frames.cleanText(text);
  }

  private get run(): CellRun | undefined {
    return this.owner.getStore() ?? this.current;
  }

  private get file(): string {
    const { place, language } = this.options;
    return join(place.folder, language === 'javascript' ? 'cell.js' : 'cell.ts');
  }

  private failedBehind(run: CellRun, error: unknown): void {
    if (this.finish && run === this.current) run.background.push(error);
    else this.options.reportLate(this.describe(error, run.cell), run.request);
  }

  private userCodeRuns(runs: boolean): void {
    this.options.userCodeRuns(runs);
  }

  private async runCell(code: string, run: CellRun): Promise<Outcome> {
    const compiled = this.compiler.compile(code);
    if (Array.isArray(compiled)) return { status: 'error', ...compileFailure(compiled, run.cell) };
    this.warn(compiled.warnings, run.cell);
    this.cells.set(run.cell, { code, original: compiled.original });
    for (const name of compiled.names.keys()) this.promise(name, run);
    this.modules.refresh();
    await nextTurn(); // an interrupt may have come while the compiler held the thread
    run.interruption.signal.throwIfAborted();

    this.userCodeRuns(true);
    await this.wait(this.modules.prepare(compiled.js));
    const script = new Script(`${HEAD}${compiled.js}${TAIL}`, {
      filename: scriptName(run.cell),
      columnOffset: -HEAD.length,
      importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    });
    const body = script.runInThisContext() as CellBody;
    const { exports, modules, file, options } = this;
    const cell = body(exports, modules.require, this.scope(run), file, options.place.folder);
    Object.assign(globalThis, { [ENTER]: () => cell() });
    try {
      await this.owner.run(run, () => enter.runInThisContext({ breakOnSigint: true }) as Promise<void>);
    } catch (thrown) {
      this.forget(compiled.names, run);
      throw thrown;
    }
    const value = await this.wait(run.value);
    while (run.unfinished.size > 0) await this.wait(Promise.all(run.unfinished));
    await nextTurn(); // rejections that nobody handles are known by now
    if (run.background.length > 0) throw run.background[0];
    const result = value === undefined || value === null ? undefined : await this.wait(rich(value));
    if (result) this.cleanResult(result);
    run.state = 'ok';
    return { status: 'ok', result };
  }

  /** An error is a value too. */
  private cleanResult({ data }: Rich): void {
    for (const [mime, form] of Object.entries(data))
      if (mime.startsWith('text/') && typeof form === 'string') data[mime] = this.cleanStacks(form);
  }

  private scope(run: CellRun): CellScope {
    return {
      variables: this.variables,
      exports: this.exports,
      require: this.modules.require,
      share: this.share,
      wait: this.wait,
      each: this.each,
      import: this.modules.import,
      meta: this.meta,
      result: value => {
        run.value = value;
      },
    };
  }

  private fail(run: CellRun, thrown: unknown): Outcome {
    const described = this.describe(thrown);
    run.state = described.ename === 'Interrupted' ? 'interrupted' : 'failed';
    return { status: 'error', ...described };
  }

  private warn(warnings: readonly Problem[], cell: number): void {
    if (warnings.length > 0) this.options.warn(`${compileFailure(warnings, cell).traceback.join('\n')}\n`);
  }

  /** `cell` is the one whose background work it was. */
  private describe(thrown: unknown, cell?: number): Failure {
    const interrupted = codeOf(thrown) === 'ERR_SCRIPT_EXECUTION_INTERRUPTED';
    const error = interrupted ? new Interrupted('the cell was interrupted') : thrown;
    return failure(error, this.frames, cell);
  }

  /** A name that the cell will set. Until then, and for good if it fails before, it has no value: not `undefined`, which is one. */
  private promise(name: string, run: CellRun): void {
    const which = run.cell === 0 ? 'code that is no cell' : `cell [${run.cell}]`;
    const happened = {
      running: 'has not come to it',
      ok: 'has not set it',
      failed: 'failed',
      interrupted: 'was interrupted',
    };
    Object.defineProperty(this.variables, name, {
      get: () => {
        throw new ReferenceError(`${name} was never set: ${which} ${happened[run.state]}`);
      },
      set: (value: unknown) => void declare(this.variables, name, value),
      enumerable: false,
      configurable: true,
    });
  }

  /** After a failure: what the cell did not come to set. */
  private forget(names: ReadonlyMap<string, Kind>, run: CellRun): void {
    for (const [name, kind] of names) {
      if (kind !== 'let' && kind !== 'var') continue;
      try {
        if (this.variables[name] === undefined && kind === 'var') this.promise(name, run);
      } catch {
        this.promise(name, run); // it is in its temporal dead zone for ever
      }
    }
  }

  /** A `let` of a cell is one variable for all cells: those that change it and the functions that were declared beside it. */
  private readonly share = (name: string, get: () => unknown, set: (value: unknown) => void): void => {
    Object.defineProperty(this.variables, name, { get, set, enumerable: true, configurable: true });
  };

  private readonly wait = <T>(value: T | PromiseLike<T>): T | Promise<T> => {
    if (typeof (value as PromiseLike<T> | undefined)?.then !== 'function') return value as T;
    const { run } = this;
    const here = waitedAt(this.wait);
    return new Promise<T>((resolve, reject) => {
      run?.waiting.add(reject);
      Promise.resolve(value)
        .then(resolve, (error: unknown) => {
          here.of(error);
          reject(error);
        })
        .finally(() => run?.waiting.delete(reject));
    });
  };

  private readonly each = async function* (
    this: Session,
    values: AsyncIterable<unknown> | Iterable<unknown>,
  ): AsyncGenerator<unknown> {
    const iterator =
      (values as AsyncIterable<unknown>)[Symbol.asyncIterator]?.() ?? (values as Iterable<unknown>)[Symbol.iterator]();
    try {
      for (let step = await this.wait(iterator.next()); !step.done; step = await this.wait(iterator.next()))
        yield await this.wait(step.value);
    } finally {
      await iterator.return?.();
    }
  }.bind(this);
}

/** Of an error of Node's; of a thrown proxy even that can fail. */
function codeOf(thrown: unknown): unknown {
  try {
    return (thrown as NodeJS.ErrnoException | undefined)?.code;
  } catch {
    return undefined;
  }
}

function declare(variables: object, name: string | symbol, value: unknown): boolean {
  return Reflect.defineProperty(variables, name, { value, writable: true, enumerable: true, configurable: true });
}

/**
 * What a cell declares: a new variable, also where an earlier cell has one of that name, whose functions keep theirs. TypeScript defines what a
 * cell imports as read-only getters; here a later cell may set it again.
 */
function declaring(variables: Record<string, unknown>): object {
  return new Proxy(variables, {
    set: (_target, name, value) => declare(variables, name, value),
    defineProperty: (_target, name, { get, value }) =>
      name === '__esModule' || declare(variables, name, get ? get() : value),
  });
}

function units(text: string, codePointCount: number): number {
  return Array.from(text).slice(0, codePointCount).join('').length;
}

function codePoints(text: string, unitCount: number): number {
  return Array.from(text.slice(0, unitCount)).length;
}
