import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { ROOT } from '../util/root';

/** Where a trial's code begins; what these import, and what that imports, is all that decides what a trial computes. */
const ENTRIES = [
  'lib/train/trainer.ts',
  'lib/train/recipe.ts',
  'lib/data/open.ts',
  'lib/data/worker.ts',
  'lib/engine/open.ts',
];

/** The kernels that are built into the engine: no import leads to them. */
const NATIVE = 'lib/engine/native';

/** `from './x'`, `import('./x')`, `import './x'`: all relative imports of the lab's sources, which have no extension. */
const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*)'(\.{1,2}\/[^']+)'/g;

/** Paths relative to ROOT, sorted, of all files that decide what a trial computes. */
export function codeFiles(root = ROOT): string[] {
  const found = new Set(readdirSync(join(root, NATIVE)).map(name => `${NATIVE}/${name}`));
  const follow = (path: string): void => {
    if (found.has(path)) return;
    found.add(path);
    for (const [, target] of readFileSync(join(root, path), 'utf8').matchAll(IMPORT)) {
      const file = join(root, dirname(path), `${target}.ts`);
      if (existsSync(file)) follow(relative(root, file).split(sep).join('/'));
    }
  };
  ENTRIES.forEach(follow);
  return [...found].sort();
}

/** sha256 over the names and bytes of `codeFiles`: runs of equal code, recipe, pictures and threads are equal, on equal machines. */
export function codeDigest(root = ROOT): string {
  return digestSources(codeFiles(root).map(path => [path, readFileSync(join(root, path))]));
}

/** The digest of sources that are in memory, by their paths, in the order of `codeFiles`. */
export function digestSources(sources: Iterable<readonly [path: string, bytes: Uint8Array]>): string {
  const hash = createHash('sha256');
  for (const [path, bytes] of sources) hash.update(`${path}\n${bytes.length}\n`).update(bytes);
  return hash.digest('hex');
}
