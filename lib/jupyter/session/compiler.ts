import { readFileSync } from 'node:fs';
import { createRequire, SourceMap } from 'node:module';
import { join } from 'node:path';
import type * as TypeScript from '@tslab/typescript-for-tslab';
import type { Converter } from 'tslab/dist/converter';
import { shareVariables, withoutExports } from './cellVariables';
import { modificationTime } from './modules';

/** A place in a cell or in a file of the project; both numbers from 1. */
export interface Position {
  /** Relative to the project; nothing for the cell itself. */
  file?: string;
  line: number;
  column: number;
}

export interface Problem extends Position {
  message: string;
}

export interface CompiledCell {
  /** CommonJS. Variables of other cells, and what the cell waits for, go through `__cell__`. */
  js: string;
  /** The names and types that the next cells see. */
  declarations: string;
  /** The property of `exports` that gets the value of the last expression. */
  lastExpression: string | undefined;
  /** Where a position of `js` comes from. */
  original(line: number, column: number): Position | undefined;
}

const INLINE_MAP = /\/\/# sourceMappingURL=data:application\/json;base64,(\S+)\s*$/;
const MODULE_NOT_FOUND = [2307, 2792];

/**
 * tslab's converter, which checks a cell against the declarations of those before it, with what it lacks: the project's own compiler
 * options, source maps, top-level await by TypeScript's rules, waits that an interrupt can end, and changed files seen
 * when a cell is compiled rather than when a watcher wakes. The project's modules are checked here, but loaded by modules.ts.
 */
export class Compiler {
  readonly isComplete: (code: string) => { completed: boolean; indent?: string };
  private readonly ts: typeof TypeScript;
  private readonly converter: Converter;
  private readonly describe: (info: TypeScript.QuickInfo) => string;
  private readonly files = new Map<string, { modified: number; changed: TypeScript.FileWatcherCallback }>();
  private readonly folders = new Map<string, TypeScript.DirectoryWatcherCallback>();
  /** Modules found free of errors; they stay so until a file changes. */
  private correct = new WeakSet<TypeScript.SourceFile>();
  private moduleMissing = false;
  private lookingAgain = false;
  /** Of the cell compiled last: CommonJS to ES module, ES module to TypeScript. */
  private maps: readonly [SourceMap, SourceMap] | undefined;

  /** `root` must be the working directory: tslab resolves everything from there. Takes about a second. */
  constructor(private readonly root: string) {
    const load = createRequire(join(root, 'package.json'));
    const path = load.resolve('@tslab/typescript-for-tslab');
    this.ts = load(path);
    require.cache[path]!.exports = this.hardened(); // its properties are read-only, so tslab gets an altered copy
    const { createConverter, isCompleteCode } = load(
      'tslab/dist/converter.js',
    ) as typeof import('tslab/dist/converter');
    this.describe = (load('tslab/dist/inspect.js') as typeof import('tslab/dist/inspect')).printQuickInfo;
    this.isComplete = isCompleteCode;
    this.converter = createConverter({ isJS: false, isBrowser: false });
  }

  /** `declarations` are those of the cells before. */
  compile(code: string, declarations: string): CompiledCell | Problem[] {
    this.refresh();
    const {
      diagnostics,
      output = '',
      declOutput = '',
      lastExpressionVar,
    } = this.converter.convert(declarations, withoutExports(this.ts, code));
    this.moduleMissing = diagnostics.some(problem => MODULE_NOT_FOUND.includes(problem.code));
    if (diagnostics.length > 0) {
      return diagnostics.map(({ fileName, start, code: number, messageText }) => ({
        file: fileName,
        line: start.line + 1,
        column: start.character + 1,
        message: `TS${number}: ${messageText}`,
      }));
    }
    const [toModule, toCell] = this.maps!;
    return {
      js: output,
      declarations: declOutput,
      lastExpression: lastExpressionVar,
      original(line, column) {
        const inModule = find(toModule, line - 1, column - 1);
        const inCell = inModule && find(toCell, inModule.line, inModule.column);
        return inCell && { line: inCell.line, column: inCell.column + 1 }; // tslab puts a line before the cell's first
      },
    };
  }

  /** Names that fit at `position` (UTF-16 units), and the span that they replace. */
  complete(code: string, declarations: string, position: number): { start: number; end: number; candidates: string[] } {
    this.refresh();
    return this.converter.complete(declarations, code, position);
  }

  /** Type and documentation of the name at `position`. */
  inspect(code: string, declarations: string, position: number): string | undefined {
    this.refresh();
    const info = this.converter.inspect(declarations, code, position) as TypeScript.QuickInfo | undefined;
    return info && this.describe(info);
  }

  /** Tells TypeScript what has changed since the last time; where a module was missing, that it may be there now. */
  private refresh(): void {
    const { Created, Changed, Deleted } = this.ts.FileWatcherEventKind;
    for (const [path, file] of this.files) {
      const modified = modificationTime(path);
      if (modified === file.modified) continue;
      file.changed(path, modified === 0 ? Deleted : file.modified === 0 ? Created : Changed);
      file.modified = modified;
      this.correct = new WeakSet();
    }
    if (!this.moduleMissing) return;
    this.lookingAgain = true;
    for (const [path, changed] of this.folders) changed(path);
    this.lookingAgain = false;
  }

  private projectOptions(): TypeScript.CompilerOptions {
    const { ts, root } = this;
    const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), path => readFileSync(path, 'utf8'));
    return {
      ...ts.convertCompilerOptionsFromJson(config?.compilerOptions ?? {}, root).options,
      module: ts.ModuleKind.ESNext,
      noEmit: false,
      noUnusedLocals: false, // a later cell may use them
      disableTopLevelAwait: false, // tslab's own way misses `await (x)` and `for await`
      inlineSourceMap: true,
    };
  }

  private hardened(): typeof TypeScript {
    const { ts, files, folders } = this;
    const isCell = (file: TypeScript.SourceFile | undefined): boolean =>
      file !== undefined && /\/__tslab__\.ts$/.test(file.fileName);
    return {
      ...ts,
      sys: {
        ...ts.sys,
        watchFile(path, changed) {
          if (!path.includes('/node_modules/')) files.set(path, { modified: modificationTime(path), changed });
          return { close: () => void files.delete(path) };
        },
        watchDirectory(path, changed) {
          folders.set(path, changed);
          return { close: () => void folders.delete(path) };
        },
      },
      createWatchCompilerHost: ((
        rootFiles: string[],
        options: TypeScript.CompilerOptions,
        ...rest: [TypeScript.System]
      ) => {
        const host = ts.createWatchCompilerHost(rootFiles, { ...options, ...this.projectOptions() }, ...rest);
        const { setTimeout } = host; // tslab's, which holds one timer: that of the next compilation, before which folders are looked at anyway
        host.setTimeout = (...timer) => (this.lookingAgain ? undefined : setTimeout!(...timer));
        let created = host.afterProgramCreate;
        return Object.defineProperty(host, 'afterProgramCreate', {
          get: () => created,
          set(use: NonNullable<typeof created>) {
            const nothing: TypeScript.EmitResult = { emitSkipped: true, diagnostics: [] };
            created = builder =>
              use({
                ...builder,
                emit(file, write, token, declarationsOnly, transformers) {
                  if (!isCell(file)) return nothing;
                  const checker = builder.getProgram().getTypeChecker();
                  const { getSymbolAtLocation } = checker;
                  const before = [shareVariables(ts, { ...checker })];
                  checker.getSymbolAtLocation = () => undefined; // so tslab finds no variable to rename
                  try {
                    return builder.emit(file, write, token, declarationsOnly, { ...transformers, before });
                  } finally {
                    checker.getSymbolAtLocation = getSymbolAtLocation;
                  }
                },
              });
          },
        });
      }) as typeof ts.createWatchCompilerHost,
      getPreEmitDiagnosticsOfFiles: (program, sources) => {
        const unchecked = sources.filter(file => !this.correct.has(file));
        const problems = ts.getPreEmitDiagnosticsOfFiles(program, unchecked).filter(({ file }) => file); // others are about tslab's options
        if (problems.length === 0) for (const file of unchecked) if (!isCell(file)) this.correct.add(file);
        // As one text, since tslab forgets which file a chain of messages is about.
        return problems.map(problem => ({
          ...problem,
          messageText: ts.flattenDiagnosticMessageText(problem.messageText, '\n'),
        }));
      },
      transpileModule: (js, { compilerOptions }) => {
        const [, toCell] = INLINE_MAP.exec(js)!;
        const { outputText, sourceMapText } = ts.transpileModule(js.replace(INLINE_MAP, ''), {
          compilerOptions: { ...compilerOptions, sourceMap: true },
          transformers: { before: [interruptible(ts)] },
        });
        this.maps = [
          new SourceMap(JSON.parse(sourceMapText!)),
          new SourceMap(JSON.parse(Buffer.from(toCell, 'base64').toString())),
        ];
        return { outputText: outputText.replace(/\/\/# sourceMappingURL=.*\s*$/, '') };
      },
    };
  }
}

/** `await x` → `await __cell__.wait(x)`, `for await (… of xs)` → `… of __cell__.each(xs)`. */
function interruptible(ts: typeof TypeScript): TypeScript.TransformerFactory<TypeScript.SourceFile> {
  return context => {
    const { factory } = context;
    const through = (method: string, value: TypeScript.Expression): TypeScript.Expression =>
      factory.createCallExpression(
        factory.createPropertyAccessExpression(factory.createIdentifier('__cell__'), method),
        undefined,
        [value],
      );
    const visit = (node: TypeScript.Node): TypeScript.Node => {
      const visited = ts.visitEachChild(node, visit, context);
      if (ts.isAwaitExpression(visited))
        return factory.updateAwaitExpression(visited, through('wait', visited.expression));
      if (ts.isForOfStatement(visited) && visited.awaitModifier) {
        return factory.updateForOfStatement(
          visited,
          visited.awaitModifier,
          visited.initializer,
          through('each', visited.expression),
          visited.statement,
        );
      }
      return visited;
    };
    return file => ts.visitEachChild(file, visit, context);
  };
}

function find(map: SourceMap, line: number, column: number): { line: number; column: number } | undefined {
  const entry = map.findEntry(line, column);
  return 'originalLine' in entry ? { line: entry.originalLine, column: entry.originalColumn } : undefined;
}
