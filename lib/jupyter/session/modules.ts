import { existsSync, readFileSync, statSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import { dirname, extname, join, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { constants, Script } from 'node:vm';
import type { Place } from './place';

const REQUIRED = /\brequire\((["'])([^"'\n]+)\1\)/g;

type Import = (specifier: string, options?: ImportCallOptions) => Promise<Record<string, unknown>>;

/**
 * What cells import, resolved from the notebook's folder, then for paths from that of its project. Modules of the project load through tsx, as
 * for every command of the lab, so a notebook and lib share one instance of each; those that changed on disk load anew. ES modules, which
 * a cell's CommonJS cannot require (vega has top-level await), are imported before the cell runs.
 */
export class Modules {
  private readonly load: NodeJS.Require;
  private readonly loadFromProject: NodeJS.Require;
  private readonly importNatively: Import;
  private readonly imported = new Map<string, unknown>();
  private readonly loaded = new Map<string, number>();

  /** `provided` are modules that the kernel has itself. `onLoad` sees what a cell loads. */
  constructor(
    private readonly place: Place,
    private readonly provided: ReadonlyMap<string, unknown> = new Map(),
    private readonly onLoad: (exports: unknown) => void = () => {},
  ) {
    this.load = createRequire(join(place.folder, 'cell.ts'));
    this.loadFromProject = createRequire(join(place.project, 'cell.ts'));
    this.importNatively = new Script('(specifier, options) => import(specifier, options)', {
      filename: join(place.folder, 'cell.js'), // what the specifier is relative to
      importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    }).runInThisContext() as Import;
    void withoutWarnings(() => this.importNatively('data:text/javascript,'));
  }

  readonly require = Object.assign(
    (id: string): unknown => {
      const own = this.provided.get(id) ?? this.imported.get(id);
      if (own) return own;
      const exports = isBuiltin(id) ? this.load(id) : this.load(this.resolve(id));
      this.onLoad(exports);
      return exports;
    },
    { resolve: (id: string): string => this.resolve(id) },
  );

  /** `import(…)` of a cell. */
  readonly import = async (specifier: unknown, options?: ImportCallOptions): Promise<unknown> => {
    const id = String(specifier);
    if (/^(data|node|https?):/.test(id)) return this.importNatively(id, options);
    const path = id.startsWith('file:') ? new URL(id).pathname : id;
    if (!this.provided.has(path) && this.isEsModule(path)) return this.importNatively(this.located(path), options);
    const exports = this.require(path);
    if (typeof exports !== 'object' || exports === null) return { default: exports };
    return (exports as { __esModule?: boolean }).__esModule ? exports : { ...exports, default: exports };
  };

  /** Forgets the modules of the project that changed since they were loaded, and those that use them. */
  refresh(): void {
    const modules = this.projectModules();
    const stale = new Set(
      modules.filter(({ id }) => this.loaded.has(id) && this.loaded.get(id) !== modificationTime(id)),
    );
    for (let before = -1; before < stale.size; ) {
      before = stale.size;
      for (const module of modules) if (module.children.some(child => stale.has(child))) stale.add(module);
    }
    for (const { id } of stale) {
      delete require.cache[id];
      this.loaded.delete(id);
    }
  }

  /** Imports the ES modules among what the code requires. */
  async prepare(js: string): Promise<void> {
    for (const [, , id] of js.matchAll(REQUIRED)) {
      if (this.provided.has(id) || this.imported.has(id) || !this.isEsModule(id)) continue;
      const namespace = await this.importNatively(this.located(id));
      this.onLoad(namespace);
      this.imported.set(id, { ...namespace, __esModule: true }); // so that `import x from` finds the default export
    }
  }

  /** Notes what is loaded now, to know later what has changed. */
  settle(): void {
    for (const { id } of this.projectModules()) if (!this.loaded.has(id)) this.loaded.set(id, modificationTime(id));
  }

  private resolve(id: string): string {
    try {
      return this.load.resolve(id);
    } catch (error) {
      if (!/^\.\.?\//.test(id)) throw error;
      try {
        return this.loadFromProject.resolve(id);
      } catch {
        throw error;
      }
    }
  }

  /** What native `import` understands: it knows the notebook's folder, not the project's. */
  private located(id: string): string {
    return /^[./]/.test(id) ? pathToFileURL(this.resolve(id)).href : id;
  }

  private projectModules(): NodeJS.Module[] {
    const dependencies = `${sep}node_modules${sep}`;
    return Object.values(require.cache).filter(
      (module): module is NodeJS.Module =>
        Boolean(module?.id.startsWith(this.place.project + sep)) && !module!.id.includes(dependencies),
    );
  }

  /** Whether only `import` loads it. Modules of the project that tsx can load as CommonJS are loaded so, that there is one of each. */
  private isEsModule(id: string): boolean {
    if (isBuiltin(id)) return false;
    let path: string;
    try {
      path = this.resolve(id);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ERR_PACKAGE_PATH_NOT_EXPORTED'; // exported to `import` only
    }
    if (extname(path) !== '.js') return extname(path) === '.mjs';
    if (/^[./]/.test(id)) return false;
    let folder = dirname(path);
    while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).type === 'module';
  }
}

/** Node warns once that native imports of scripts are new; a notebook need not say so. */
async function withoutWarnings(work: () => Promise<unknown>): Promise<void> {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    await work();
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** In milliseconds; 0 where there is no file. */
export function modificationTime(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
