import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { petals } from '../lib/data/sources/petals';
import { planTraining, type TrainingPlan } from '../lib/train/plan';
import { type Recipe, type RecipeOptions, resolveRecipe } from '../lib/train/recipe';

/** Images and a network so small that a step takes milliseconds, but with all that a large one has. */
export const DATA = 'petals:classes=3,train=8,test=5,size=32';
export const dataset = petals({ classes: 3, train: 8, test: 5, size: 32 });

export function tinyRecipe(options: Partial<RecipeOptions> = {}): Recipe {
  return resolveRecipe({
    model: 'edgevit-xxs',
    modelSettings: { depths: '1,1,1,1', dims: '8,16,16,16', heads: '1,2,2,2' },
    dropPath: 0.3,
    data: DATA,
    size: 32,
    epochs: 2,
    batch: 4,
    lr: 3e-3,
    warmupEpochs: 1,
    weightDecay: 0.05,
    labelSmoothing: 0.1,
    clip: 1,
    ema: 0.9,
    augment: { randomCrop: [0.5, 1], flip: 0.5, jitter: 0.2, erase: 0.3, mixup: 0.5, cutmix: 0.5 },
    ...options,
  });
}

/** Of a tiny recipe, on the images above. */
export const tinyPlan = (options: Partial<RecipeOptions> = {}): TrainingPlan =>
  planTraining(tinyRecipe(options), dataset);

export function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
