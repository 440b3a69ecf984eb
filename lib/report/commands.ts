import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { folderOf } from '../runs/portable';
import type { RunRecord } from '../runs/store';
import type { TrialResult } from '../runs/trialResults';
import { type Recipe, settingsOf } from '../train/recipe';
import { ROOT } from '../util/root';

/** What a command has to say beside the recipe, so that it ends at the same bytes on an equal machine. */
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
  const { threads, variables } = environment;
  return trainCommand(recipeName, recipe, { ...dataOptions, init: init?.path, threads, variables });
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
  const threads = new Set(origins.map(origin => origin.environment.threads));
  const seeds = 1 + Math.max(...rows.map(({ seed }) => seed));
  const all = (only: string[]): string =>
    command(
      `experiment -- ${experiment}`,
      [`--data=${shownData(recipe.data)}`, ...only, `--seeds=${seeds}`, ...settings(asked)],
      { ...dataOptions, threads: environment.threads, variables: environment.variables },
    );
  const together: Record<string, string> =
    threads.size === 1
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
      'petals',
      { ...origin!.recipe, data: shownData(origin!.recipe.data) },
      { ...origin!.dataOptions, ...origin!.environment },
    ),
  ]);
  return { ...together, ...Object.fromEntries(each) };
}

/** What `--data` takes here: a folder that is not in this checkout is for the reader to name. */
function shownData(data: string): string {
  const folder = folderOf(data);
  return folder === undefined || existsSync(resolve(ROOT, folder)) ? data : 'folder:PATH';
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
  const before = variables ? `${variables.split(' ').map(quoted).join(' ')} ` : '';
  return `${before}npm run ${name.includes(' -- ') ? name : `${name} --`} ${line}`;
}

/** For a shell. */
function quoted(word: string): string {
  return /^[\w.,:/=+-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
