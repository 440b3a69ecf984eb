import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { buildSync } from 'esbuild';
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

/** Paths relative to `root`, sorted, of all files that decide what a trial computes: those that esbuild would bundle, and the C++. */
export function codeFiles(root = ROOT): string[] {
  const { metafile } = buildSync({
    absWorkingDir: root,
    entryPoints: ENTRIES,
    bundle: true,
    metafile: true,
    write: false,
    outdir: 'bundle', // of which nothing is written
    platform: 'node',
    format: 'cjs',
    packages: 'external', // package-lock.json stands for them
    logLevel: 'silent',
  });
  const native = readdirSync(join(root, NATIVE), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(root.length + 1));
  return [...Object.keys(metafile.inputs), ...native].map(path => path.split(sep).join('/')).sort();
}

/** sha256 over the names and bytes of `codeFiles`. Equal code computes equal bytes; other code does too, unless it raises `NUMERICS`. */
export function codeDigest(root = ROOT): string {
  return digestSources(codeFiles(root).map(path => [path, readFileSync(join(root, path))]));
}

/** The digest of sources that are in memory, by their paths, in the order of `codeFiles`. */
export function digestSources(sources: Iterable<readonly [path: string, bytes: Uint8Array]>): string {
  const hash = createHash('sha256');
  for (const [path, bytes] of sources) hash.update(`${path}\n${bytes.length}\n`).update(bytes);
  return hash.digest('hex');
}
