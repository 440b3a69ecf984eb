import type { Dataset } from '../data/dataset';
import type { ResolvedModel } from '../model/registry';
import { modelDefaults, RECIPE_VERSION, type Recipe, recipeDefaults } from './recipe';

/** What is left to compare where two recipes describe the same training in other words. */
export type Configuration = Readonly<Record<string, unknown>>;

/**
 * What a recipe asks for beyond the defaults, without the ways to say it: `data` may name a folder of this machine, so the images' fingerprint
 * stands for it, and the model's configuration for ablation, settings and drop path. A setting that is added later, and has its default, is not in it.
 */
export function configuration(
  recipe: Recipe,
  { config, numClasses }: ResolvedModel,
  { fingerprint }: Pick<Dataset, 'fingerprint'>,
): Configuration {
  const { ablation: _, modelSettings: __, dropPath: ___, ...own } = recipe;
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
