import { readFileSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { moveFolder, scratchFolder } from '../util/folders';
import { flattenRecord } from '../util/records';
import { allowedNames } from '../util/suggest';
import { printable } from '../util/text';
import type { Run } from './store';

const NOTE = 'note.txt';
const NOTE_LENGTH = 500;

/** What somebody wrote about a run, in a line; empty where nobody did. */
export function readNote(run: Run): string {
  const path = join(run.folder, NOTE);
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size === 0 || size > 4 * NOTE_LENGTH + 1) return ''; // none, or nothing that `writeNote` wrote
  return printable(readFileSync(path, 'utf8').trim());
}

/** Keeps a line about a run in its folder, an empty one removes it. It decides nothing, and no bundle tells it. Throws UserError for a longer one. */
export function writeNote(run: Run, note: string): void {
  const line = note.trim();
  if (line.length > NOTE_LENGTH || printable(line) !== line)
    throw new UserError(
      `A note is one line of at most ${NOTE_LENGTH} characters, not ${line.length} with control characters.`,
    );
  if (line === '') rmSync(join(run.folder, NOTE), { force: true });
  else writeFileAtomic(join(run.folder, NOTE), `${line}\n`);
}

/** Deletes a run's folder, and a trial's file and log: first out of sight, so that nobody meets a half of it. Throws UserError for one that is running. */
export function deleteRun(run: Run): void {
  const { name, owner } = run.record;
  if (run.status === 'running')
    throw new UserError(`The run '${name}' is still running, as process ${owner.pid} of ${owner.host}: end it first.`);
  const runs = dirname(run.folder);
  const away = scratchFolder(runs);
  moveFolder(run.folder, join(away, 'run'));
  for (const file of ['json', 'log'])
    if (run.record.trial !== null) rmSync(join(runs, 'trials', `${name}.${file}`), { force: true });
  rmSync(away, { recursive: true, force: true });
}

/**
 * Whether a run is one of those that are asked for: by `key=value`, with a key of its recipe, or `status`, `recipe`, `data` (a dataset's name); or
 * by words of its name or note. Throws UserError for a key that no run has.
 */
export function isAskedFor(run: Run, filters: readonly string[]): boolean {
  const { name, recipe, recipeName, dataset } = run.record;
  const fields = new Map(
    flattenRecord({
      ...recipe,
      ...recipe.modelSettings,
      status: run.status,
      recipe: recipeName,
      data: dataset.name,
    }).map(([key, value]) => [key, [value].flat().join()]),
  );
  const words = `${name} ${readNote(run)}`.toLowerCase();
  return filters.every(filter => {
    const [, key, value] = /^([\w.]+)=(.*)$/.exec(filter) ?? [];
    if (key === undefined) return words.includes(filter.toLowerCase());
    if (!fields.has(key) && !isSetting(key, run))
      throw new UserError(
        `--filter is '${filter}': there is no '${key}' to look at; ${allowedNames(key, [...fields.keys()])}`,
      );
    return fields.get(key) === value;
  });
}

/** Whether a key is one of the model's: runs of other models do not have it. */
function isSetting(key: string, { record }: Run): boolean {
  return Object.hasOwn(record.model.config, key);
}
