import { SourceMap } from 'node:module';
import { relative } from 'node:path';
import ts from 'typescript';
import type { Language } from '../install/register';
import { type CellModule, cellModule, type Kind } from './cellModule';
import { type Completeness, type Completions, completeness, completions, describeAt } from './editor';
import type { Place } from './place';
import { CellProgram } from './program';
import { interruptible, shareVariables, throughScope, withoutEarlyExports } from './transform';

/** A place in a cell or in a file of the project; both numbers from 1. */
export interface Position {
  /** Relative to the project; nothing for the cell itself. */
  file?: string;
  line: number;
  column: number;
}

export interface Problem extends Position {
  message: string;
  /** The text of the file that it is in. */
  source: string;
}

export interface CompiledCell {
  /** CommonJS. Variables of other cells, and what the cell waits for, go through `__cell__`. */
  js: string;
  /** The values that the cell declares. */
  names: ReadonlyMap<string, Kind>;
  /** What the checker says and does not refuse. */
  warnings: readonly Problem[];
  /** Where a position of `js` comes from. */
  original(line: number, column: number): Position | undefined;
}

export interface CompilerOptions {
  language?: Language;
  /** What the checker refuses is only told. */
  lenient?: boolean;
  /** Types are checked as by tslab, whatever the project's settings are. */
  asTslab?: boolean;
}

const MODULE_NOT_FOUND = [2307, 2792, 7016];
/** A package without types is not the user's mistake. */
const UNTYPED_PACKAGE = 7016;

/**
 * Compiles cells on TypeScript's language service: each is checked in the scope of those before it, and the modules of the project that it
 * imports are checked with it, but loaded by modules.ts.
 */
export class Compiler {
  private readonly program: CellProgram;
  private readonly language: Language;
  private readonly lenient: boolean;
  /** What is wrong with the tsconfig.json, to be told with the first cell that runs. */
  private readonly configuration: Problem[];

  /** Takes about half a second. */
  constructor(
    private readonly place: Place,
    { language = 'typescript', lenient = false, asTslab = false }: CompilerOptions = {},
  ) {
    this.language = language;
    this.lenient = lenient;
    this.program = new CellProgram(place, language, asTslab);
    this.configuration = this.program.problems.map(problem => this.problem(problem, undefined));
  }

  compile(code: string): CompiledCell | Problem[] {
    const cell = cellModule(code, this.language === 'javascript');
    const name = this.program.set(cell.text);
    const { program } = this.program;
    const file = program.getSourceFile(name)!;
    if (program.getSyntacticDiagnostics(file).length > 0) return this.syntaxErrors(code);
    const { errors, warnings } = this.check(program, file, code, cell);
    if (errors.length > 0) return errors;
    const compiled = this.emit(program, file, cell);
    this.program.keep();
    return { ...compiled, names: cell.names, warnings: [...this.configuration.splice(0), ...warnings] };
  }

  /** Names that fit at `position` (UTF-16 units), and the span that they replace. */
  complete(code: string, position: number): Completions {
    const name = this.program.set(cellModule(code, this.language === 'javascript').text);
    void this.program.program;
    return completions(this.program.service, name, code, position, this.place.folder);
  }

  /** Type and documentation of the name at `position`, or the signature of the call that it stands in. */
  inspect(code: string, position: number): string | undefined {
    const name = this.program.set(cellModule(code, this.language === 'javascript').text);
    void this.program.program;
    return describeAt(this.program.service, name, position);
  }

  isComplete(code: string): Completeness {
    return completeness(code, this.language === 'javascript');
  }

  /** Of the text as it was written: what is put behind it would change what the parser says of its end. */
  private syntaxErrors(code: string): Problem[] {
    const { diagnostics = [] } = ts.transpileModule(code, {
      fileName: this.language === 'javascript' ? 'cell.js' : 'cell.ts',
      reportDiagnostics: true,
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    });
    return diagnostics.map(diagnostic => this.problem(diagnostic, code));
  }

  private check(
    program: ts.Program,
    file: ts.SourceFile,
    code: string,
    cell: CellModule,
  ): { errors: Problem[]; warnings: Problem[] } {
    const diagnostics =
      this.language === 'javascript'
        ? []
        : program.getSemanticDiagnostics(file).filter(({ start = 0 }) => start < code.length);
    for (const module of this.program.unchecked(file)) {
      const found = [...program.getSyntacticDiagnostics(module), ...program.getSemanticDiagnostics(module)];
      if (found.length === 0) this.program.found(module);
      else if (this.language === 'typescript') diagnostics.push(...found);
    }
    const errors: Problem[] = [];
    const warnings: Problem[] = [];
    for (const diagnostic of diagnostics) {
      if (diagnostic.category !== ts.DiagnosticCategory.Error) continue;
      const harmless = this.lenient || cell.lenient || diagnostic.code === UNTYPED_PACKAGE;
      (harmless ? warnings : errors).push(this.problem(diagnostic, diagnostic.file === file ? code : undefined));
    }
    return { errors, warnings };
  }

  /** `code` is that of the cell, if it is in it. */
  private problem({ file, start = 0, code: number, messageText }: ts.Diagnostic, code: string | undefined): Problem {
    const source = code ?? file?.text ?? '';
    const before = source.slice(0, start).split('\n');
    const text = ts.flattenDiagnosticMessageText(messageText, '\n');
    return {
      file: code === undefined && file ? relative(this.place.project, file.fileName) : undefined,
      line: before.length,
      column: before.at(-1)!.length + 1,
      message: `TS${number}: ${text}${MODULE_NOT_FOUND.includes(number) ? this.hint(source.slice(start)) : ''}`,
      source,
    };
  }

  /** What would have been found. */
  private hint(source: string): string {
    const [, specifier] = /^(?:require\()?["']([^"']+)["']/.exec(source) ?? [];
    const path = specifier?.replace(/^(\.\.?\/)+/, './');
    if (!specifier?.startsWith('.') || path === specifier || !this.program.finds(path!)) return '';
    return ` Imports begin at the notebook's folder or at that of its project: '${path}' is found.`;
  }

  private emit(program: ts.Program, file: ts.SourceFile, { names }: CellModule): Pick<CompiledCell, 'js' | 'original'> {
    const output = { js: '', map: '' };
    const before = [shareVariables(program.getTypeChecker(), other => this.program.isCell(other), names)];
    program.emit(
      file,
      (path, text) => {
        if (path.endsWith('.map')) output.map = text;
        else output.js = text;
      },
      undefined,
      false,
      { before },
    );
    const { outputText, sourceMapText } = ts.transpileModule(output.js, {
      compilerOptions: {
        module: ts.ModuleKind.CommonJS,
        target: ts.ScriptTarget.ES2022,
        esModuleInterop: true,
        newLine: ts.NewLineKind.LineFeed,
        sourceMap: true,
      },
      transformers: { before: [interruptible], after: [withoutEarlyExports, throughScope] },
    });
    const js = outputText.replace(/\/\/# sourceMappingURL=.*\s*$/, '');
    const [toModule, toCell] = [sourceMapText!, output.map].map(map => new SourceMap(JSON.parse(map)));
    return {
      // JavaScript may make a global variable by setting it; in TypeScript that is an error anyway.
      js: this.language === 'javascript' ? js.replace(/^"use strict";/, '') : js,
      original(line, column) {
        const inModule = find(toModule, line - 1, column - 1);
        const inCell = inModule && find(toCell, inModule.line, inModule.column);
        return inCell && { line: inCell.line + 1, column: inCell.column + 1 };
      },
    };
  }
}

function find(map: SourceMap, line: number, column: number): { line: number; column: number } | undefined {
  const entry = map.findEntry(line, column);
  return 'originalLine' in entry ? { line: entry.originalLine, column: entry.originalColumn } : undefined;
}
