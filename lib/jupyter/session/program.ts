import { createRequire } from 'node:module';
import { dirname, isAbsolute, join } from 'node:path';
import ts from 'typescript';
import type { Language } from '../install/register';
import { GLOBAL_TYPES } from './globals';
import { modificationTime } from './modules';
import { nearest, type Place } from './place';

/** As tslab checks cells, and as they are checked here where there is no tsconfig.json. */
const TSLAB: ts.CompilerOptions = {
  strict: false,
  noImplicitAny: false,
  noImplicitThis: false,
  strictNullChecks: false,
  strictPropertyInitialization: false,
  noUncheckedIndexedAccess: false,
  exactOptionalPropertyTypes: false,
};

/** The kernel's own packages, for cells in a folder that does not have them: `tslab`, and the types of Node. */
const own = createRequire(__filename);
const OWN_PACKAGES = /^tslab$/;

/** A source file's place in the scopes of the cells; the parent is TypeScript's, but not in its published types. */
type Scope = { -readonly [key in keyof ts.SourceFile]: ts.SourceFile[key] };

const FILES_AT_ONCE = 16;

interface VirtualFile {
  text: string;
  version: number;
}

/**
 * The cells as one TypeScript program. Each is a module of its own, whose scope lies within that of the cell before: a later cell sees
 * the variables themselves, not declarations derived from them, so whatever a type is it stays. Files are looked at when a
 * cell is compiled; what did not change is neither read nor resolved again.
 */
export class CellProgram {
  readonly service: ts.LanguageService;
  private readonly virtual = new Map<string, VirtualFile>();
  /** Files of cells; the first `executed` of them hold those that ran, the next what is compiled now or being edited, the rest nothing. */
  private readonly cells: string[] = [];
  private executed = 0;
  /** Of the tsconfig.json. */
  readonly problems: readonly ts.Diagnostic[];
  private readonly options: ts.CompilerOptions;
  private readonly roots: string[];
  private readonly index: string;
  private resolutions!: ts.ModuleResolutionCache;
  /** Of the files of the project, in milliseconds; 0 where there is none. */
  private readonly modified = new Map<string, number>();
  private readonly exists = new Map<string, boolean>();
  /** Of each file of cells and project: what its imports were found to be. */
  private readonly imports = new Map<string, Map<string, string>>();
  /** Files with an import that was not found, and how often files have been looked at anew for that. */
  private readonly unresolved = new Set<string>();
  private readonly attempts = new Map<string, number>();
  private version = 0;
  /** Modules of the project found free of errors; they stay so until a file changes. */
  private correct = new Set<string>();

  constructor(
    private readonly place: Place,
    private readonly language: Language,
    asTslab: boolean,
  ) {
    const { options, problems } = configured(place.folder);
    this.options = cellOptions(options, place.folder, asTslab);
    this.problems = problems;
    this.index = join(place.folder, '[cells].ts');
    const globals = join(place.folder, '[kernel].d.ts');
    this.virtual.set(globals, { text: GLOBAL_TYPES, version: 1 });
    this.roots = [this.index, globals, ...nodeTypes(place.folder, this.options)];
    this.service = ts.createLanguageService(this.host());
    this.forgetResolutions();
  }

  /** Puts `text` after all cells before; it becomes one of them by `keep`. Returns its file's name. */
  set(text: string): string {
    this.refresh();
    if (this.executed === this.cells.length) this.addFiles();
    const name = this.cells[this.executed];
    this.write(name, text);
    return name;
  }

  keep(): void {
    this.executed++;
  }

  /** With the scopes of the cells in each other; the same until `set`. */
  get program(): ts.Program {
    const program = this.service.getProgram()!;
    program.getTypeChecker(); // binds the files
    let before: ts.SourceFile | undefined;
    for (const name of this.cells.slice(0, this.executed + 1)) {
      const file = program.getSourceFile(name)!;
      (file as Scope).parent = before as unknown as ts.SourceFile['parent'];
      before = file;
    }
    return program;
  }

  /** Some at once: a program whose list of files stays the same is renewed much faster. */
  private addFiles(): void {
    const extension = this.language === 'javascript' ? 'js' : 'ts';
    for (let i = 0; i < FILES_AT_ONCE; i++) {
      const name = join(this.place.folder, `[cell ${this.cells.length + 1}].${extension}`);
      this.cells.push(name);
      this.write(name, 'export {};');
    }
    this.write(this.index, this.cells.map(name => `import ${JSON.stringify(name)};`).join('\n'));
  }

  isCell(file: ts.SourceFile): boolean {
    return this.virtual.has(file.fileName);
  }

  /** Modules of the project that `file` needs, itself excepted, and that are not known to be right. */
  unchecked(file: ts.SourceFile): ts.SourceFile[] {
    const { program } = this;
    const seen = new Set<ts.SourceFile>();
    const visit = (from: ts.SourceFile): void => {
      for (const path of this.imports.get(from.fileName)?.values() ?? []) {
        const module = program.getSourceFile(path);
        if (!module || seen.has(module) || module.isDeclarationFile || !this.inProject(module.fileName)) continue;
        seen.add(module);
        visit(module);
      }
    };
    visit(file);
    return [...seen].filter(({ fileName }) => !this.correct.has(fileName));
  }

  found(correct: ts.SourceFile): void {
    this.correct.add(correct.fileName);
  }

  /** Whether an import of this name would be found. */
  finds(specifier: string): boolean {
    return this.resolve(specifier, this.index) !== undefined;
  }

  private inProject(path: string): boolean {
    return path.startsWith(`${this.place.project}/`) && !path.includes('/node_modules/') && !this.virtual.has(path);
  }

  private write(name: string, text: string): void {
    const before = this.virtual.get(name);
    if (before?.text === text) return;
    this.imports.delete(name);
    this.virtual.set(name, { text, version: (before?.version ?? 0) + 1 });
    this.version++;
  }

  /** Looks what has changed since the last time; where a module was missing, whether it is there now. */
  private refresh(): void {
    const again = new Set(this.unresolved);
    let changed = false;
    for (const [path, before] of this.modified) {
      const now = modificationTime(path);
      if (now === before) continue;
      this.modified.set(path, now);
      changed = true;
      if (now !== 0 && before !== 0) continue;
      for (const [file, imports] of this.imports) if ([...imports.values()].includes(path)) again.add(file);
    }
    if (again.size === 0 && !changed) return;
    this.version++;
    this.unresolved.clear();
    for (const file of again) this.attempts.set(file, (this.attempts.get(file) ?? 0) + 1);
    this.exists.clear();
    this.forgetResolutions();
    if (changed) this.correct.clear();
  }

  private forgetResolutions(): void {
    this.resolutions = ts.createModuleResolutionCache(this.place.folder, name => name, this.options);
  }

  /** From a cell a path may begin at the notebook's folder or at that of the project. */
  private resolve(specifier: string, from: string): ts.ResolvedModuleFull | undefined {
    const at = (file: string): ts.ResolvedModuleFull | undefined =>
      ts.resolveModuleName(
        specifier,
        file,
        this.options,
        this.moduleHost,
        this.resolutions,
        undefined,
        ts.ModuleKind.ESNext,
      ).resolvedModule;
    if (this.virtual.has(from) && isAbsolute(specifier) && this.virtual.has(specifier))
      return { resolvedFileName: specifier, extension: specifier.endsWith('.js') ? '.js' : '.ts' };
    const found = at(from);
    if (found || !this.virtual.has(from)) return found;
    if (/^\.\.?\//.test(specifier)) return at(join(this.place.project, 'cell.ts'));
    return OWN_PACKAGES.test(specifier) ? at(__filename) : undefined;
  }

  private readonly moduleHost: ts.ModuleResolutionHost = {
    fileExists: path => this.virtual.has(path) || this.fileExists(path),
    readFile: ts.sys.readFile,
    directoryExists: ts.sys.directoryExists,
    realpath: ts.sys.realpath,
    getDirectories: ts.sys.getDirectories,
    getCurrentDirectory: () => this.place.folder,
  };

  private fileExists(path: string): boolean {
    const known = this.exists.get(path);
    if (known !== undefined) return known;
    const exists = ts.sys.fileExists(path);
    this.exists.set(path, exists);
    return exists;
  }

  private host(): ts.LanguageServiceHost & Pick<ts.CompilerHost, 'getModuleResolutionCache'> {
    const { virtual, moduleHost } = this;
    const snapshots = new Map<string, { version: string; snapshot: ts.IScriptSnapshot | undefined }>();
    const versionOf = (path: string): string => {
      const file = virtual.get(path);
      const attempt = this.attempts.get(path) ?? 0;
      if (file) return `${file.version}.${attempt}`;
      if (path.includes('/node_modules/')) return '1'; // what packages hold does not change while a notebook runs
      let time = this.modified.get(path);
      if (time === undefined) {
        time = modificationTime(path);
        this.modified.set(path, time);
      }
      return `${time}.${attempt}`;
    };
    return {
      getCompilationSettings: () => this.options,
      getProjectVersion: () => String(this.version),
      getScriptFileNames: () => this.roots,
      getScriptVersion: versionOf,
      getScriptSnapshot(path) {
        const version = versionOf(path);
        const known = snapshots.get(path);
        if (known?.version === version) return known.snapshot;
        const text = virtual.get(path)?.text ?? ts.sys.readFile(path);
        const snapshot = text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
        snapshots.set(path, { version, snapshot });
        return snapshot;
      },
      getCurrentDirectory: () => this.place.folder,
      getDefaultLibFileName: ts.getDefaultLibFilePath,
      useCaseSensitiveFileNames: () => ts.sys.useCaseSensitiveFileNames,
      resolveModuleNameLiterals: (literals, from) => {
        const ours = virtual.has(from) || this.inProject(from);
        const imports = this.imports.get(from) ?? new Map<string, string>();
        if (ours) this.imports.set(from, imports);
        return literals.map(({ text }) => {
          const resolvedModule = this.resolve(text, from);
          if (resolvedModule) imports.set(text, resolvedModule.resolvedFileName);
          else if (ours) this.unresolved.add(from);
          return { resolvedModule };
        });
      },
      getModuleResolutionCache: () => this.resolutions,
      fileExists: moduleHost.fileExists,
      readFile: path => virtual.get(path)?.text ?? ts.sys.readFile(path),
      readDirectory: ts.sys.readDirectory,
      directoryExists: ts.sys.directoryExists,
      getDirectories: ts.sys.getDirectories,
      realpath: ts.sys.realpath,
    };
  }
}

/** Cells are what is compiled, so it is no mistake of the file's to name none. */
const NO_INPUTS = [18002, 18003];

/** The options of the nearest tsconfig.json, and what is wrong with it. */
function configured(folder: string): { options: ts.CompilerOptions; problems: ts.Diagnostic[] } {
  const path = ts.findConfigFile(folder, ts.sys.fileExists);
  if (path === undefined) return { options: { ...TSLAB, jsx: ts.JsxEmit.React }, problems: [] };
  const host: ts.ParseConfigHost = { ...ts.sys, readDirectory: () => [] };
  const file = ts.readJsonConfigFile(path, ts.sys.readFile);
  const { options, errors } = ts.parseJsonSourceFileConfigFileContent(file, host, dirname(path), undefined, path);
  const { parseDiagnostics = [] } = file as { parseDiagnostics?: ts.Diagnostic[] };
  const [unreadable] = parseDiagnostics; // those behind it follow from it
  const problems = unreadable ? [unreadable] : errors.filter(({ code }) => !NO_INPUTS.includes(code));
  return { options, problems: problems.map(problem => (problem.file ? problem : { ...problem, file, start: 0 })) };
}

/** What cells need: they are modules, are compiled one by one, and each sees all before. */
function cellOptions(options: ts.CompilerOptions, folder: string, asTslab: boolean): ts.CompilerOptions {
  return {
    ...options,
    ...(asTslab ? TSLAB : {}),
    target: ts.ScriptTarget.ES2022, // what Node 20 runs
    lib: options.lib ?? ['lib.es2023.d.ts'],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    types: (options.types ?? []).filter(name => name !== 'node'),
    esModuleInterop: true,
    resolveJsonModule: true,
    allowJs: true,
    checkJs: false,
    allowImportingTsExtensions: true,
    skipLibCheck: true,
    noUnusedLocals: false, // a later cell may use them
    noUnusedParameters: false,
    isolatedModules: false,
    verbatimModuleSyntax: false,
    allowUnusedLabels: true,
    noEmit: false,
    noEmitOnError: false,
    declaration: false,
    declarationMap: false,
    emitDeclarationOnly: false,
    isolatedDeclarations: false,
    composite: false,
    incremental: false,
    sourceMap: true,
    inlineSourceMap: false,
    inlineSources: false,
    mapRoot: undefined,
    emitBOM: false,
    removeComments: false,
    importHelpers: false,
    outFile: undefined,
    outDir: join(folder, '[out]'), // never written; beside its source a cell's JavaScript would overwrite one in JavaScript
    rootDir: undefined,
    newLine: ts.NewLineKind.LineFeed,
  };
}

/** Those of the folder, or else the kernel's. */
function nodeTypes(folder: string, options: ts.CompilerOptions): string[] {
  const around = nearest(folder, 'node_modules/@types/node/index.d.ts');
  const roots = [...(options.typeRoots ?? []), ...(around === undefined ? [] : [join(around, 'node_modules/@types')])];
  const found = roots.map(root => join(root, 'node/index.d.ts')).find(ts.sys.fileExists);
  if (found) return [found];
  try {
    return [join(dirname(own.resolve('@types/node/package.json')), 'index.d.ts')];
  } catch {
    return [];
  }
}
