import { createHash } from 'node:crypto';
import type { Dataset } from '../data/dataset';
import { ABLATIONS, ablate, VARIANTS, type Variant } from '../model/config';
import { modelOf, type Recipe } from '../train/recipe';

/** What decides a trial's bytes beside its recipe and its images. */
export interface Setup {
  /** `codeDigest` */
  code: string;
  /** Of TensorFlow inside an op. */
  threads: number;
}

type Pictures = Pick<Dataset, 'name' | 'fingerprint' | 'classes'>;

/** What is left to compare where two recipes describe the same training in other words. */
type Configuration = Record<string, unknown>;

/**
 * A recipe without the ways to say it: `data` may name a folder of this machine, so the images' fingerprint stands for it, and the
 * model's whole configuration for ablation, settings and drop path.
 */
function configuration(recipe: Recipe, { fingerprint, classes }: Pictures): Configuration {
  const { ablation: _, modelSettings: __, dropPath: ___, ...own } = recipe;
  const { config, numClasses } = modelOf(recipe, classes.length);
  return { ...own, data: fingerprint, outputs: numClasses, config };
}

/** Digest of what a trial is asked: equal ones may still differ in bits, where code or threads do. */
export function configurationDigest(recipe: Recipe, pictures: Pictures): string {
  return digest(configuration(recipe, pictures)).slice(0, 16);
}

/** Digest of what all variants of an experiment share; `varied` are the keys of the recipe that they change. Trials of one budget can be compared. */
export function budgetDigest(recipe: Recipe, pictures: Pictures, varied: readonly string[]): string {
  const shared = Object.entries(configuration(recipe, pictures)).filter(
    ([key]) => !['model', 'config', 'outputs', 'seed', ...varied].includes(key),
  );
  return digest(Object.fromEntries(shared)).slice(0, 16);
}

/** A trial's digest and the name of its run folder, which ends in the digest's beginning: equal ones are the same trial. */
export function trialIdentity(recipe: Recipe, pictures: Pictures, setup: Setup): { digest: string; name: string } {
  const whole = digest({ ...configuration(recipe, pictures), ...setup });
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
