import { z } from 'zod';
import { AUGMENTATIONS, type AugmentationOptions, parseAugmentation } from '../data/transforms/augmentation';
import { totalCount } from '../model/count';
import type { Model } from '../model/module';
import {
  architectureOf,
  buildModel as buildResolved,
  countConfig,
  type ResolvedModel,
  resolveModel,
} from '../model/registry';
import { UserError } from '../util/errors';
import { parseOptions } from '../util/options';
import { allowedNames, nearest } from '../util/suggest';
import { counted } from '../util/text';
import { frozenParams } from './finetune';

/** Whole numbers that anything is made of, bounded: what no machine can do is refused before it is begun. */
const atMost = (most: number) => z.number().int().positive().max(most, `at most ${most} is allowed`);
const side = atMost(4096);
const share = z.number().min(0).lt(1);

/** Everything that decides what a run computes, as plain JSON: equal recipes give equal bytes. */
const schema = z.strictObject({
  model: z.string(),
  /** A name of `ABLATIONS`. */
  ablation: z.string().nullable().default(null),
  /** Other settings of the model's configuration. */
  modelSettings: z.record(z.string(), z.unknown()).default({}),
  /** Drop path rate of the model's last block; null for the model's own, which is the official 0.1 in EdgeViT. */
  dropPath: share.nullable().default(null),
  /** Outputs of the model; null for as many as there are classes. */
  outputs: atMost(100_000).nullable().default(null),
  /** What `openDataset` takes. */
  data: z.string(),
  /** Side of the images in pixels, or [height, width]. */
  size: z.union([side, z.tuple([side, side])], 'expected a number of pixels, at most 4096, or HEIGHTxWIDTH'),
  /** How images are changed before training; evaluation takes what is not random in it. */
  augment: z.custom<AugmentationOptions>().transform(parseAugmentation).prefault({}),
  epochs: atMost(1_000_000),
  /** Images per step. */
  batch: atMost(65_536),
  seed: z.number().int().min(0).default(0),
  optimizer: z.enum(['adam', 'adamw', 'sgd']).default('adamw'),
  lr: z.number().positive(),
  schedule: z.enum(['constant', 'cosine']).default('cosine'),
  /** Where the cosine ends; no higher than `lr`. */
  minLr: z.number().min(0).default(1e-5),
  warmupEpochs: z.number().min(0).default(0),
  weightDecay: z.number().min(0).default(0),
  momentum: share.default(0.9),
  beta1: share.default(0.9),
  beta2: share.default(0.999),
  epsilon: z.number().positive().default(1e-8),
  labelSmoothing: share.default(0),
  /** Largest joint norm of the gradients; 0 for no clipping. */
  clip: z.number().min(0).default(0),
  /** Decay of the moving average of the weights; 0 for none. Evaluation uses the average where there is one. */
  ema: share.default(0),
  /** Parameters that keep the weights that training begins with (`frozenParams` in finetune.ts); null for none. */
  freeze: z.string().min(1).nullable().default(null),
  /** Learning rate of the classifier after warm-up; null for that of all else. */
  lrHead: z.number().positive().nullable().default(null),
  /** Learning rate of each layer as a fraction of the next one's; 1 for the same everywhere. */
  layerDecay: z.number().positive().max(1).default(1),
  /** A batch's loss above this, in nats, counts as exploded: training stops. */
  maxLoss: z.number().positive().default(100),
});

export type Recipe = z.output<typeof schema>;
export type RecipeOptions = z.input<typeof schema>;

/**
 * Version of the defaults below and of the models' configurations. Results are told apart by what differs from these, so that a new key changes
 * no result's name. A default that changes needs the next version, or old results would stand for another training: test/defaults.test.ts.
 */
export const RECIPE_VERSION = 1;

/** What a recipe holds where it says nothing; keys that it has to say are left out. */
export function recipeDefaults(): Partial<Recipe> {
  const said = { model: '', data: '', size: 1, epochs: 1, batch: 1, lr: 1 };
  return Object.fromEntries(Object.entries(schema.parse(said)).filter(([key]) => !Object.hasOwn(said, key)));
}

/** The configuration of a model of which nothing is said. */
export function modelDefaults(model: string): object {
  return architectureOf(model).published;
}

/** Recipes by name, each with where it comes from: what is said of one holds for any images. */
export const RECIPES = {
  petals: {
    about: 'small and quick, for a demonstration',
    options: {
      model: 'edgevit-xxs',
      data: 'petals',
      size: 64,
      epochs: 12,
      batch: 16,
      dropPath: 0,
      lr: 2e-3,
      weightDecay: 0.05,
      warmupEpochs: 1,
      labelSmoothing: 0.1,
      augment: { randomCrop: [0.8, 1], flip: 0.5, jitter: 0.2 },
    },
  },
  flowers12: {
    about: '60 epochs of AdamW at 96 px, as PyTorch with the official code was trained for comparison',
    options: {
      model: 'edgevit-xxs',
      data: 'folder:datasets/flowers12',
      size: 96,
      epochs: 60,
      batch: 16,
      lr: 1e-3,
      weightDecay: 0.05,
      warmupEpochs: 5,
      labelSmoothing: 0.1,
      augment: AUGMENTATIONS.train,
    },
  },
  /** In this model one step takes an image's loss from 3.5 to 0 and another's to hundreds: no sign of trouble, hence `maxLoss`. */
  article: {
    about: "the teaching article's: batch 1, Adam, and 103 outputs because its labels begin at 1",
    options: {
      model: 'article',
      outputs: 103,
      data: 'flowers102:split=paddle',
      size: 224,
      epochs: 2,
      batch: 1,
      optimizer: 'adam',
      lr: 1e-3,
      schedule: 'constant',
      maxLoss: 1e6,
      augment: AUGMENTATIONS.article,
    },
  },
  /**
   * The official main.py's numbers. Its learning rate is 5e-4 · batch / 512. RandAugment, which the lab does not have, gives
   * way to the colour jitter that main.py uses without it (0.4); augmentation is not repeated.
   */
  imagenet: {
    about: "the official main.py's, for a batch of 256, with colour jitter for RandAugment",
    options: {
      model: 'edgevit-xxs',
      data: 'folder:datasets/imagenet',
      size: 224,
      epochs: 300,
      batch: 256,
      lr: 2.5e-4,
      weightDecay: 0.05,
      warmupEpochs: 5,
      labelSmoothing: 0.1,
      ema: 0.99996,
      augment: {
        randomCrop: [0.08, 1],
        centerCrop: 0.875,
        interpolation: 'bicubic',
        flip: 0.5,
        jitter: 0.4,
        erase: 0.25,
        mixup: 0.8,
        cutmix: 1,
      },
    },
  },
} satisfies Record<string, { about: string; options: RecipeOptions }>;

export const DEFAULT_RECIPE = 'petals';

/** A named recipe's options. Throws UserError for a name that does not exist. */
export function namedRecipe(name: string): { about: string; options: RecipeOptions } {
  if (!Object.hasOwn(RECIPES, name))
    throw new UserError(`Unknown recipe '${name}': ${allowedNames(name, Object.keys(RECIPES))}`);
  return RECIPES[name as keyof typeof RECIPES];
}

/** In a batch, each of which takes twelve bytes: 3 GB. */
const MOST_PIXELS = 2 ** 28;

/** Fills in the defaults. Throws UserError for what cannot be: unknown keys, bad values, a model that does not exist or does not fit. */
export function resolveRecipe(options: RecipeOptions): Recipe {
  const recipe = parseOptions(schema, options, 'recipe');
  if (options.minLr === undefined) recipe.minLr = Math.min(recipe.minLr, recipe.lr);
  if (recipe.schedule === 'cosine' && recipe.minLr > recipe.lr)
    throw new UserError(
      `recipe.minLr is ${recipe.minLr}, above lr, ${recipe.lr}: the learning rate would rise to the end. Lower minLr, or take schedule=constant.`,
    );
  const { published } = architectureOf(recipe.model);
  const unknown = Object.keys(recipe.modelSettings).find(key => !Object.hasOwn(published, key));
  if (unknown !== undefined) {
    const own = SETTINGS.concat(Object.keys(parseAugmentation()).map(key => `augment.${key}`));
    const meant = nearest(unknown, [...own, ...Object.keys(published)]);
    throw new UserError(
      `Unknown setting '${unknown}': ${meant === undefined ? `allowed are ${own.join(', ')}, and of ${recipe.model} ${Object.keys(published).join(', ') || 'none'}.` : `did you mean '${meant}'?`}`,
    );
  }
  modelOf(recipe, 1);
  const [height, width] = [recipe.size, recipe.size].flat();
  if (recipe.batch * height * width > MOST_PIXELS)
    throw new UserError(
      `recipe.batch is ${counted(recipe.batch, 'image')} of ${height}×${width} pixels: at most ${MOST_PIXELS} pixels in a batch are allowed.`,
    );
  return recipe;
}

/** What of a recipe does not do what its words say, in the training that comes of it; each in a sentence. */
export function remarks({ recipe, model, totalSteps }: { recipe: Recipe; model: Model; totalSteps: number }): string[] {
  const { warmupEpochs, epochs, ema, labelSmoothing, batch, lr, freeze } = recipe;
  const span = Math.round(1 / (1 - ema));
  const frozen = frozenParams(model, freeze).size;
  return [
    ...(frozen > 0 ? [`${frozen} of ${model.params.length} parameters are frozen (freeze ${freeze})`] : []),
    ...(warmupEpochs > epochs
      ? [
          `the warm-up, ${counted(warmupEpochs, 'epoch')}, is longer than the training, ${epochs}: the learning rate ends at ${((lr * epochs) / warmupEpochs).toPrecision(2)} and never reaches ${lr}`,
        ]
      : []),
    ...(ema > 0 && span > totalSteps
      ? [
          `the moving average (ema ${ema}) spans ${counted(span, 'step')}, and there are ${totalSteps}: what is evaluated is still near the first weights`,
        ]
      : []),
    ...(labelSmoothing > 0 && model.numClasses === 1 ? ['label smoothing has no effect on one output'] : []),
    ...(batch === 1 && model.buffers.length > 0 ? ['batch norms see one image at a time (batch 1)'] : []),
  ];
}

/** The configuration of the recipe's model for a dataset of so many classes. Throws UserError where it cannot be built. */
export function modelOf(recipe: Recipe, classes: number): ResolvedModel {
  const { model: name, size, dropPath, modelSettings, outputs } = recipe;
  const ablation = recipe.ablation ?? undefined;
  if (outputs !== null && outputs < classes)
    throw new UserError(
      `The recipe's outputs are ${outputs}, but the dataset has ${counted(classes, 'class', 'classes')}.`,
    );
  const numClasses = outputs ?? classes;
  const drops = dropPath !== null && 'dropPath' in architectureOf(name).published;
  if (dropPath && !drops) throw new UserError(`The recipe's dropPath is ${dropPath}, but ${name} has no drop path.`);
  const resolved = resolveModel(name, { ...modelSettings, ...(drops && { dropPath }), numClasses, size, ablation });
  checkExtent(resolved);
  return resolved;
}

/** Of any setting of a model, of the blocks that it has, and of its parameters: beyond all that a machine trains. */
const [LARGEST_SETTING, MOST_BLOCKS, MOST_PARAMETERS] = [65_536, 1024, 2e9];

/** Throws UserError for a network that no machine holds, before it is counted or built: a recipe may come from anyone. */
function checkExtent(model: ResolvedModel): void {
  for (const [key, value] of Object.entries(model.config)) {
    const numbers = [value].flat().filter(each => typeof each === 'number');
    const blocks = /^depths?$/.test(key) ? numbers.reduce((sum, each) => sum + each, 0) : 0;
    if (numbers.some(each => each > LARGEST_SETTING) || blocks > MOST_BLOCKS)
      throw new UserError(
        `${model.name}.${key} is ${numbers.join()}: at most ${blocks > 0 ? `${MOST_BLOCKS} in all` : LARGEST_SETTING} is allowed.`,
      );
  }
  const { params } = totalCount(countConfig(model));
  if (params > MOST_PARAMETERS)
    throw new UserError(
      `${model.name} would have ${params.toExponential(1)} parameters: at most ${MOST_PARAMETERS.toExponential(0)} are allowed.`,
    );
}

/** The recipe's model, built. */
export const buildModel = (recipe: Recipe, classes: number): Model => buildResolved(modelOf(recipe, classes));

/** Keys of a recipe that hold one value. */
const SETTINGS = Object.keys(schema.shape).filter(key => key !== 'augment' && key !== 'modelSettings');

/**
 * A recipe with settings from the command line: a key of the recipe, `augment.` and a key of the augmentation, or else a key of
 * the model's configuration, which `resolveRecipe` checks.
 */
export function applySettings(options: RecipeOptions, settings: Record<string, string>): RecipeOptions {
  const recipe: Record<string, unknown> = { ...options };
  const augment: Record<string, unknown> = { ...options.augment };
  const modelSettings: Record<string, unknown> = { ...options.modelSettings };
  for (const [key, text] of Object.entries(settings)) {
    if (key.split('.').includes('__proto__')) throw new UserError(`Unknown setting '${key}'.`);
    if (key.startsWith('augment.')) augment[key.slice('augment.'.length)] = parseValue(text);
    else if (SETTINGS.includes(key)) recipe[key] = parseValue(text);
    else modelSettings[key] = text;
  }
  return { ...recipe, augment, modelSettings } as RecipeOptions;
}

/** The settings by which a recipe differs from a named one, as `applySettings` takes them. */
export function settingsOf(recipe: Recipe, recipeName: string): Record<string, string> {
  const base = resolveRecipe(namedRecipe(recipeName).options);
  const differing = (own: object, other: object, prefix = ''): [string, string][] =>
    Object.entries(own)
      .filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(other[key as keyof typeof other]))
      .map(([key, value]) => [prefix + key, typeof value === 'string' ? value : JSON.stringify(value)]);
  const { augment, modelSettings, ...own } = recipe;
  return Object.fromEntries([
    ...differing(own, base),
    ...differing(augment, base.augment, 'augment.'),
    ...differing(modelSettings, {}).map(([key, value]): [string, string] => [key, value.replace(/^\[(.*)\]$/, '$1')]),
  ]);
}

/** Numbers, true, false, null and JSON arrays as what they are, 96x128 as [96, 128], everything else as text. */
function parseValue(text: string): unknown {
  if (/^\d+x\d+$/.test(text)) return text.split('x').map(Number);
  if (text.trim() !== '' && !Number.isNaN(Number(text))) return Number(text);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
