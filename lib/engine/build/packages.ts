import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { inScratch, moveFolder } from '../../util/folders';
import { execute } from '../../util/processes';
import { cacheFolder, Obstacle } from './system';

/*
 * The npm packages behind an engine. In a checkout they are beside the lab. Where the lab is a package of somebody else's program they are no
 * dependency of it, because tfjs-node's installer fetches a library that the lab has no use for and fails where it can't: they come into the cache,
 * on first use and without their installers, as TensorFlow itself does.
 */
export const ENGINE_PACKAGES = {
  '@tensorflow/tfjs': '4.22.0',
  '@tensorflow/tfjs-node': '4.22.0',
  'node-api-headers': '1.9.0',
} as const;

type EnginePackage = keyof typeof ENGINE_PACKAGES;

const ours = createRequire(__filename);

const cached = (): string =>
  join(cacheFolder(), `packages-${Object.values(ENGINE_PACKAGES).join('-')}-node${process.versions.modules}`);

/** What loads them: from beside the lab, or else from the cache; undefined where they are in neither. */
function found(): NodeJS.Require | undefined {
  const here = [ours, createRequire(join(cached(), 'package.json'))];
  return here.find(require => {
    try {
      for (const name of Object.keys(ENGINE_PACKAGES)) require.resolve(`${name}/package.json`);
      return true;
    } catch {
      return false;
    }
  });
}

/** Whether they are there, without looking anywhere else. */
export const havePackages = (): boolean => found() !== undefined;

/** Loads one of them, or resolves a path in one. Throws an Obstacle where `ensurePackages` has yet to fetch them. */
export function engineRequire(): NodeJS.Require {
  const require = found();
  if (require) return require;
  throw new Obstacle(
    "The npm packages of TensorFlow.js aren't here yet: run `npx edgevit-lab setup`, where the npm registry can be reached.",
  );
}

/** A package's folder. Nothing is ever written there: another user may own it, or another machine use it too. */
export const packageFolder = (name: EnginePackage): string => dirname(engineRequire().resolve(`${name}/package.json`));

/** Fetches what is missing by npm, without running any installer. Throws an Obstacle. */
export async function ensurePackages(report: (line: string) => void): Promise<void> {
  if (havePackages()) return;
  const wanted = Object.entries(ENGINE_PACKAGES).map(([name, version]) => `${name}@${version}`);
  report(`Fetching ${wanted.join(', ')} by npm, which takes a minute (once per user).`);
  await inScratch(cacheFolder(), async scratch => {
    writeFileSync(join(scratch, 'package.json'), '{ "private": true }');
    const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--save-exact', '--loglevel=error'];
    // An npm that runs us tells its children by variables what it was called with, `--prefix` and `--global` among it.
    const env = Object.fromEntries(
      Object.entries(process.env).filter(
        ([name]) => !/^npm_(config_(global|prefix|local_prefix|dry_run|omit)|lifecycle|package)/i.test(name),
      ),
    );
    const outcome = await execute('npm', ['install', ...quiet, ...wanted], { cwd: scratch, env });
    if (outcome.code !== 0)
      throw new Obstacle(
        `npm could not fetch ${wanted.join(', ')} (${reasonOf(outcome.output, outcome.missing)}): run \`npx edgevit-lab setup\` where the npm registry can be reached.`,
      );
    moveFolder(scratch, cached()); // false where another process was faster
  });
}

const reasonOf = (output: string, missing: boolean): string =>
  missing
    ? 'there is no npm on the PATH'
    : (output
        .split('\n')
        .find(line => /^npm (error|ERR!) (?!code|A complete log)/.test(line))
        ?.replace(/^npm (error|ERR!) /, '')
        .slice(0, 200) ?? 'it does not say why');

/** The version of one of them that is in use. */
export function packageVersion(name: EnginePackage): string {
  const file = join(packageFolder(name), 'package.json');
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version : 'none';
}
