import { ABLATIONS } from '../../model/config';
import { openPlan } from '../../train/plan';
import { type RecipeOptions, resolveRecipe } from '../../train/recipe';
import { createTrainer } from '../../train/trainer';
import type { Check, Parts } from './parts';

/** Six steps of four images an epoch: 30 in all. */
const DATA = 'petals:classes=3,train=8,test=2,size=32';

const NARROW = { depths: '1,1,1,1', dims: '8,16,16,16', heads: '1,2,2,2' };

/** All that a recipe can ask for, so that each of the others leaves something out. */
const BASE: RecipeOptions = {
  model: 'edgevit-xxs',
  modelSettings: NARROW,
  dropPath: 0.2,
  data: DATA,
  size: 32,
  epochs: 5,
  batch: 4,
  lr: 2e-3,
  warmupEpochs: 1,
  weightDecay: 0.05,
  labelSmoothing: 0.1,
};

const AUGMENT = { randomCrop: [0.5, 1], flip: 0.5, jitter: 0.3, erase: 0.3 } satisfies RecipeOptions['augment'];

/** Ten steps of two images, which take seconds where fused multiply-adds are put together of other operations. */
const PORTABLE = { batch: 2, data: 'petals:classes=2,train=2,test=1,size=32' };

/** By name, what of a recipe is other. */
const TRAININGS: Record<string, Partial<RecipeOptions>> = {
  xxs: { modelSettings: { depths: '1,1,2,1' }, augment: AUGMENT },
  xs: { model: 'edgevit-xs', modelSettings: { depths: '1,1,1,1' } },
  s: { model: 'edgevit-s', modelSettings: { depths: '1,1,2,1' } },
  ...Object.fromEntries(Object.keys(ABLATIONS).map(ablation => [ablation, { ablation }])),
  article: { model: 'article', modelSettings: {}, dropPath: null, optimizer: 'adam', schedule: 'constant', lr: 1e-3 },
  vit: { model: 'vit-tiny', modelSettings: { depth: '2' } },
  mobilenet: { model: 'mobilenet-v2', modelSettings: { width: '0.25' }, dropPath: null },
  portable: PORTABLE,
  sgd: { optimizer: 'sgd', lr: 0.02 },
  adam: { optimizer: 'adam' },
  ema: { ema: 0.9 },
  clipping: { clip: 0.5 },
  mixup: { augment: { ...AUGMENT, mixup: 0.5, cutmix: 0.5, interpolation: 'bicubic', jitter: { hue: 0.2 } } },
  'fine-tuning': { freeze: 'patch_embed*', layerDecay: 0.8, lrHead: 0.01 },
};

async function trainingParts(options: Partial<RecipeOptions>): Promise<Parts> {
  const recipe = resolveRecipe({ ...BASE, ...options });
  const trainer = createTrainer(await openPlan(recipe));
  const parts: Parts = {};
  for await (const event of trainer.events()) {
    if (event.kind === 'step') parts[`loss of step ${event.step}`] = `${event.loss}`;
    else parts[`loss on the test images after step ${event.step}`] = `${event.evaluation.loss}`;
  }
  parts[`weights after ${trainer.progress.step} steps`] = trainer.digest();
  trainer.dispose();
  return parts;
}

export function trainingChecks(): Check[] {
  return Object.entries(TRAININGS).map(([name, options]) => ({
    name: `training ${name}`,
    run: () => trainingParts(options),
  }));
}
