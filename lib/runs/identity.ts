import { createHash } from 'node:crypto';
import type { Dataset } from '../data/dataset';
import { ABLATIONS, ablate, VARIANTS, type Variant } from '../model/config';
import { modelDefaults, modelOf, RECIPE_VERSION, type Recipe, recipeDefaults } from '../train/recipe';
import { decisive, type Environment } from './environment';

type Pictures = Pick<Dataset, 'name' | 'fingerprint' | 'classes'>;

/** What is left to compare where two recipes describe the same training in other words. */
type Configuration = Record<string, unknown>;

/**
 * What a recipe asks for beyond the defaults, without the ways to say it: `data` may name a folder of this machine, so the images' fingerprint
 * stands for it, and the model's configuration for ablation, settings and drop path. A setting that is added later, and has its default, is not in it.
 */
function configuration(recipe: Recipe, { fingerprint, classes }: Pictures): Configuration {
  const { ablation: _, modelSettings: __, dropPath: ___, ...own } = recipe;
  const { config, numClasses } = modelOf(recipe, classes.length);
  return {
    version: RECIPE_VERSION,
    ...differing(own, recipeDefaults()),
    data: fingerprint,
    outputs: numClasses,
    config: differing(config, modelDefaults(recipe.model)),
  };
}

/** The entries of an object that are not those of another, objects inside likewise, by name. */
function differing(own: object, other: object): Configuration {
  const entries = Object.entries(own).flatMap(([key, value]): [string, unknown][] => {
    const usual = (other as Configuration)[key];
    if (isRecord(value) && isRecord(usual)) {
      const inside = differing(value, usual);
      return Object.keys(inside).length > 0 ? [[key, inside]] : [];
    }
    return JSON.stringify(value) === JSON.stringify(usual) ? [] : [[key, value]];
  });
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Digest of what a trial is asked: equal ones may still differ in bits, where their environments do. */
export function configurationDigest(recipe: Recipe, pictures: Pictures): string {
  return digest(configuration(recipe, pictures)).slice(0, 16);
}

/**
 * Digest of what all variants of an experiment share; `varied` are the keys of the recipe and of the model that they change, `settings` those of
 * the model that all have. Trials of one budget can be compared.
 */
export function budgetDigest(
  recipe: Recipe,
  pictures: Pictures,
  varied: readonly string[],
  settings: Readonly<Record<string, unknown>> = {},
): string {
  const shared = Object.entries(configuration(recipe, pictures)).filter(
    ([key]) => !['model', 'config', 'outputs', 'seed', ...varied].includes(key),
  );
  const usual = modelDefaults(recipe.model) as Configuration;
  const ofModel = Object.entries(settings)
    .filter(([key, value]) => !varied.includes(key) && String(value) !== String(usual[key]))
    .map(([key, value]) => [key, String(value)])
    .sort();
  return digest({ ...Object.fromEntries(shared), ...(ofModel.length > 0 && { settings: ofModel }) }).slice(0, 16);
}

/**
 * A trial's digest and the name of its run folder, which ends in the digest's beginning: equal ones are the same trial, in environments that
 * decide the same bytes.
 */
export function trialIdentity(
  recipe: Recipe,
  pictures: Pictures,
  environment: Environment,
): { digest: string; name: string } {
  const whole = digest({ ...configuration(recipe, pictures), environment: decisive(environment) });
  const {
    config,
    inputSize: [height, width],
  } = modelOf(recipe, pictures.classes.length);
  const parts = [
    recipe.model,
    ...deviations(recipe.model, config),
    pictures.name,
    height === width ? height : `${height}x${width}`,
    `s${recipe.seed}`,
    whole.slice(0, 12),
  ];
  return { digest: whole, name: parts.join('-').replace(/[^\w.-]+/g, '-') };
}

/** In words, how a model's configuration differs from the published one: an ablation's name, or its settings; nothing for what has no ablations. */
function deviations(model: string, config: object): string[] {
  if (!Object.hasOwn(VARIANTS, model)) return [];
  const variant = model as Variant;
  const differing = (other: object): [string, unknown][] =>
    Object.entries(config).filter(
      ([key, value]) =>
        key !== 'dropPath' && JSON.stringify(value) !== JSON.stringify(other[key as keyof typeof other]),
    );
  const descriptions = [undefined, ...Object.keys(ABLATIONS)].map(ablation => ({
    ablation,
    settings: differing(ablate(variant, ablation)),
  }));
  const { ablation, settings } = descriptions.reduce((shortest, each) =>
    each.settings.length < shortest.settings.length ? each : shortest,
  );
  return [...(ablation === undefined ? [] : [ablation]), ...settings.map(([key, value]) => `${key}${String(value)}`)];
}

function digest(value: Configuration): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex');
}
