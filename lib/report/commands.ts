import { existsSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { formatDataset, parseDataset } from '../data/open';
import { decides, type Environment, environmentDifferences, recordedVariables } from '../runs/environment';
import { folderOf } from '../runs/portable';
import { formatSeeds } from '../runs/seeds';
import type { RunRecord } from '../runs/store';
import type { TrialResult } from '../runs/trialResults';
import { DEFAULT_RECIPE, RECIPES, type Recipe, settingsOf } from '../train/recipe';
import { ROOT } from '../util/root';
import { quoted } from '../util/shell';

/** What a command has to say beside the recipe, so that it ends at the same bytes. */
interface Circumstances {
  threads?: number;
  /** Environment variables, as `A=1 B=2`. */
  variables?: string;
  side?: number;
  decode?: string;
  strict?: boolean;
  flowers102Dir?: string;
  init?: string;
}

/** The command that computes a run again. */
export function rerunCommand({ recipe, recipeName, init, dataOptions, environment }: RunRecord): string {
  // A relative path was meant from where the run was made, or stands for a folder elsewhere: in a bundle.
  return trainCommand(
    knownRecipe(recipeName),
    { ...recipe, data: shownData(recipe.data) },
    { ...dataOptions, init: init?.path, ...circumstancesOf(environment) },
  );
}

/** From which steps a run went on by force in another environment, and in which: no command makes such a run again. */
export function forcedSegments({ environment, segments }: RunRecord): string[] {
  return segments.map(({ step, environment: next }, i) => {
    const before = i === 0 ? environment : segments[i - 1]!.environment;
    const how = environmentDifferences(before, next).filter(({ decides }) => decides);
    return `After step ${step} it went on by force in another environment: ${how.map(({ what, how }) => `${what} ${how}`).join('; ')}.`;
  });
}

/** What of an environment a command can ask for: the threads only where the bytes depend on them. */
function circumstancesOf(environment: Partial<Environment>): Circumstances {
  const { threads, variables } = environment;
  return { variables, ...(decides('threads', environment) && { threads }) };
}

/** A named recipe of this checkout: what comes from elsewhere may have begun from another one, and is told by its settings. */
function knownRecipe(name: string): string {
  return Object.hasOwn(RECIPES, name) ? name : DEFAULT_RECIPE;
}

/** The command that trains a recipe, told by what differs from a named one. */
function trainCommand(recipeName: string, recipe: Recipe, circumstances: Circumstances): string {
  return command('train', [`--recipe=${recipeName}`, ...settings(settingsOf(recipe, recipeName))], circumstances);
}

/**
 * The commands that make an experiment's rows again: first all of them, then those of each variant, then each row by itself. None for rows that
 * don't tell their whole recipe.
 */
export function experimentCommands(experiment: string, rows: readonly TrialResult[]): Record<string, string> {
  const origins = rows.flatMap(({ origin }) => origin ?? []);
  if (origins.length === 0 || origins.length < rows.length) return {};
  const [{ recipe, asked, dataOptions, environment }] = origins;
  const circumstances = new Set(
    origins.map(({ dataOptions, environment }) => JSON.stringify({ ...dataOptions, ...circumstancesOf(environment) })),
  );
  const seeds = formatSeeds(rows.map(({ seed }) => seed));
  const all = (only: string[]): string =>
    command(
      `experiment -- ${experiment}`,
      [`--data=${shownData(recipe.data, ROOT)}`, ...only, `--seeds=${seeds}`, ...settings(asked)],
      { ...dataOptions, ...circumstancesOf(environment) },
    );
  const together: Record<string, string> =
    circumstances.size === 1 // one command asks for one of each
      ? {
          'all of it': all([]),
          ...Object.fromEntries(
            [...new Set(rows.map(({ variant }) => variant))].map(variant => [variant, all([`--only=${variant}`])]),
          ),
        }
      : {};
  const each = rows.map(({ variant, seed, origin }): [string, string] => [
    `${variant}, seed ${seed}`,
    trainCommand(
      DEFAULT_RECIPE,
      { ...origin!.recipe, data: shownData(origin!.recipe.data, ROOT) },
      { ...origin!.dataOptions, ...circumstancesOf(origin!.environment) },
    ),
  ]);
  return { ...together, ...Object.fromEntries(each) };
}

/** What `--data` takes here: a folder that is not there is for the reader to name. `base` is what paths are relative to. */
function shownData(data: string, base?: string): string {
  const folder = folderOf(data);
  if (folder === undefined) return data;
  const isThere = isAbsolute(folder) ? existsSync(folder) : base !== undefined && existsSync(resolve(base, folder));
  return isThere ? data : formatDataset({ ...parseDataset(data), path: 'PATH' });
}

function settings(all: Record<string, string>): string[] {
  return Object.entries(all).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
}

function command(
  name: string,
  words: readonly string[],
  { threads, variables, side, decode, strict, flowers102Dir, init }: Circumstances,
): string {
  const flags = Object.entries({ init, 'flowers102-dir': flowers102Dir, side, decode, threads }).flatMap(
    ([flag, value]) => (value === undefined ? [] : [`--${flag}=${value}`]),
  );
  const line = [...words, ...flags, ...(strict ? ['--strict'] : [])].map(quoted).join(' ');
  const before = recordedVariables(variables ?? '').map(([key, value]) => `${key}=${quoted(value)} `);
  return `${before.join('')}npm run ${name.includes(' -- ') ? name : `${name} --`} ${line}`;
}
