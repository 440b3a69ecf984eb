import { existsSync, statSync } from 'node:fs';
import type { RecipeOptions } from '../train/recipe';
import { UserError } from '../util/errors';
import { importWeights } from '../weights/import';
import { KEY_MAPS } from '../weights/keyMaps';
import { openRun } from './store';

/** The file that `--init` means: a file of weights, or a run by its name or folder, whose last checkpoint it is. Throws UserError where there is none. */
export function initFile(runs: string, given: string): string {
  if (statSync(given, { throwIfNoEntry: false })?.isFile()) return given;
  if (/\.(safetensors|pth|pt)$/.test(given)) throw new UserError(`There is no file '${given}'.`);
  const run = openRun(runs, given);
  if (existsSync(run.lastCheckpoint)) return run.lastCheckpoint;
  throw new UserError(`The run '${run.record.name}' has no checkpoint yet: there are no weights to begin with.`);
}

/**
 * A recipe for these weights: with the model that they are of, unless the user said which, and with those settings that they were trained with
 * and that no shape shows (EasyCV's norms have another epsilon). Also says what was taken from the file. Throws UserError where they fit nothing.
 */
export async function adoptModel(
  path: string,
  options: RecipeOptions,
  { modelSaid }: { modelSaid: boolean },
): Promise<{ options: RecipeOptions; adopted: string }> {
  const { ablation, modelSettings = {}, size } = options;
  const { model, settings, map } = await importWeights(path, {
    model: modelSaid ? options.model : undefined,
    ablation: ablation ?? undefined,
    size,
    set: Object.entries(modelSettings).map(([key, value]) => `${key}=${String(value)}`),
  });
  const taken = Object.fromEntries(
    Object.entries(settings).filter(
      // Drop path belongs to a training, not to its weights.
      ([key, value]) => key !== 'dropPath' && !Object.hasOwn(modelSettings, key) && value !== undefined,
    ),
  );
  const said = Object.entries(taken).map(([key, value]) => `${key}=${String(value)}`);
  return {
    options: { ...options, model: model.name, modelSettings: { ...taken, ...modelSettings } },
    adopted: [`${model.name} by ${KEY_MAPS[map].about}`, ...said].join(', '),
  };
}
