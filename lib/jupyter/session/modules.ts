import { existsSync, readFileSync, statSync } from 'node:fs';
import { createRequire, isBuiltin } from 'node:module';
import { dirname, extname, join, sep } from 'node:path';

const REQUIRED = /\brequire\((["'])([^"']+)\1\)/g;

/**
 * What cells import, resolved from the project's root. Modules of the project load through tsx, as for every command of the lab, so a notebook and
 * lib share one instance of each; those that changed on disk load anew. ES modules, which a cell's CommonJS cannot require (vega has
 * top-level await), are imported before the cell runs.
 */
export class Modules {
  private readonly load: NodeJS.Require;
  private readonly imported = new Map<string, unknown>();
  private readonly loaded = new Map<string, number>();

  constructor(private readonly root: string) {
    this.load = createRequire(join(root, 'cell.ts'));
  }

  readonly require = (id: string): unknown => this.imported.get(id) ?? this.load(id);

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
      if (this.imported.has(id) || !this.isEsModule(id)) continue;
      const namespace = await import(id);
      this.imported.set(id, { ...namespace, __esModule: true }); // so that `import x from` finds the default export
    }
  }

  /** Notes what is loaded now, to know later what has changed. */
  settle(): void {
    for (const { id } of this.projectModules()) if (!this.loaded.has(id)) this.loaded.set(id, modificationTime(id));
  }

  private projectModules(): NodeJS.Module[] {
    const dependencies = `${sep}node_modules${sep}`;
    return Object.values(require.cache).filter(
      (module): module is NodeJS.Module =>
        Boolean(module?.id.startsWith(this.root + sep)) && !module!.id.includes(dependencies),
    );
  }

  private isEsModule(id: string): boolean {
    if (/^[./]/.test(id) || isBuiltin(id)) return false;
    let path: string;
    try {
      path = this.load.resolve(id);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ERR_PACKAGE_PATH_NOT_EXPORTED'; // exported to `import` only
    }
    if (extname(path) !== '.js') return extname(path) === '.mjs';
    let folder = dirname(path);
    while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).type === 'module';
  }
}

/** In milliseconds; 0 where there is no file. */
export function modificationTime(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
