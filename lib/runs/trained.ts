import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseAugmentation } from '../data/transforms/augmentation';
import { buildModel, resolveRecipe } from '../train/recipe';
import { describedBy, namesOf, type Trained, trainedFrom } from '../train/trained';
import { UserError } from '../util/errors';
import type { ImportOptions } from '../weights/fit';
import { importWeights, weightsFor } from '../weights/import';
import { openRun, type Run } from './store';

/** A run's last weights: those that were judged, which is their moving average where the run has one. Throws UserError where it has none yet. */
export async function trainedRun(run: Run): Promise<Trained> {
  const { recipe, dataset, name } = run.record;
  if (!existsSync(run.lastCheckpoint))
    throw new UserError(`The run '${name}' has no checkpoint yet: let it end its first epoch.`);
  const model = buildModel(resolveRecipe(recipe), dataset.classes.length);
  const { tensors } = await weightsFor(run.lastCheckpoint, model);
  return { name, model, tensors, ...backgroundOf(run), classes: namesOf(model, dataset.classes) };
}

/** A file's weights. What they were trained on is told by the file, by a run.json beside it, or by `classes`. Throws as `importWeights`. */
export async function trainedFile(
  path: string,
  { classes, ...options }: ImportOptions & { classes?: readonly string[] } = {},
): Promise<Trained> {
  const imported = await importWeights(path, options);
  const folder = dirname(path);
  const known = existsSync(join(folder, 'run.json'))
    ? backgroundOf(openRun('.', folder))
    : describedBy(imported.source.metadata);
  return trainedFrom(imported, known, classes);
}

function backgroundOf({ record: { recipe, dataset, dataOptions } }: Run) {
  const { decode, side } = dataOptions;
  return { classes: dataset.classes, augment: parseAugmentation(recipe.augment), reading: { decode, side } };
}
