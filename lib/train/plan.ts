import { batchesPerEpoch } from '../data/batches';
import type { Dataset } from '../data/dataset';
import { type DataOptions, openDataset } from '../data/open';
import { type Count, totalCount } from '../model/count';
import type { Model } from '../model/module';
import { countConfig } from '../model/registry';
import { UserError } from '../util/errors';
import { counted } from '../util/text';
import { type Configuration, configuration } from './configuration';
import { buildModel, type Recipe } from './recipe';
import { type TrainStep, trainStep } from './step';

/**
 * A training, resolved: what a recipe comes to on a dataset. It is made once, where the request comes in, and all below takes it. Plain data and
 * pure functions: it holds no tensors, and several trainers may share one.
 */
export interface TrainingPlan {
  readonly recipe: Recipe;
  readonly dataset: Dataset;
  readonly model: Model;
  /** The training step, with the optimizer behind it. */
  readonly step: TrainStep;
  /** Parameters, and MACs per image. */
  readonly counts: Count;
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  /** What is asked beyond the defaults: equal ones are the same training, whatever the words. */
  readonly configuration: Configuration;
}

/** Opens a recipe's dataset, and resolves the recipe on it. Throws as `openDataset` and `planTraining`. */
export async function openPlan(recipe: Recipe, data?: DataOptions): Promise<TrainingPlan> {
  return planTraining(recipe, await openDataset(recipe.data, data));
}

/** Resolves a recipe on a dataset. Throws UserError for a model that cannot be built for it, and a dataset too small for a batch. */
export function planTraining(recipe: Recipe, dataset: Dataset): TrainingPlan {
  const model = buildModel(recipe, dataset.classes.length);
  const stepsPerEpoch = batchesPerEpoch(dataset.train, { batchSize: recipe.batch, dropLast: true });
  if (stepsPerEpoch === 0)
    throw new UserError(
      `The batch is ${recipe.batch}, but ${dataset.name} has only ${counted(dataset.train.length, 'image')} to train on.`,
    );
  return {
    recipe,
    dataset,
    model,
    step: trainStep(model, recipe),
    counts: totalCount(countConfig(model)),
    stepsPerEpoch,
    totalSteps: recipe.epochs * stepsPerEpoch,
    configuration: configuration(recipe, model, dataset),
  };
}
