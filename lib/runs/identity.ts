import { createHash } from 'node:crypto';
import { ABLATIONS, ablate, VARIANTS, type Variant } from '../model/config';
import type { Configuration } from '../train/configuration';
import type { TrainingPlan } from '../train/plan';
import { modelDefaults } from '../train/recipe';
import { decisive, type Environment } from './environment';

/** Digest of what a trial is asked: equal ones may still differ in bits, where their environments do. */
export function configurationDigest({ configuration }: Pick<TrainingPlan, 'configuration'>): string {
  return digest(configuration).slice(0, 16);
}

/**
 * Digest of what all variants of an experiment share; `varied` are the keys of the recipe and of the model that they change, `settings` those of
 * the model that all have. Trials of one budget can be compared.
 */
export function budgetDigest(
  { recipe, configuration }: Pick<TrainingPlan, 'recipe' | 'configuration'>,
  varied: readonly string[],
  settings: Readonly<Record<string, unknown>> = {},
): string {
  const shared = Object.entries(configuration).filter(
    ([key]) => !['model', 'config', 'outputs', 'seed', ...varied].includes(key),
  );
  const usual = modelDefaults(recipe.model) as Configuration;
  const ofModel = Object.entries(settings)
    .filter(([key, value]) => !varied.includes(key) && String(value) !== String(usual[key]))
    .map(([key, value]) => [key, String(value)])
    .sort();
  return digest({ ...Object.fromEntries(shared), ...(ofModel.length > 0 && { settings: ofModel }) }).slice(0, 16);
}

/** Of a digest, in names. */
const DIGITS = 12;

/**
 * A trial's digest and the name of its run folder, which ends in the digest's beginning: equal ones are the same trial, in environments that
 * decide the same bytes.
 */
export function trialIdentity(
  { recipe, dataset, model, configuration }: TrainingPlan,
  environment: Environment,
): { digest: string; name: string } {
  const whole = digest({ ...configuration, environment: decisive(environment) });
  const [height, width] = model.inputSize;
  const parts = [
    recipe.model,
    ...deviations(recipe.model, model.config),
    dataset.name,
    height === width ? height : `${height}x${width}`,
    `s${recipe.seed}`,
    whole.slice(0, DIGITS),
  ];
  return { digest: whole, name: parts.join('-').replace(/[^\w.-]+/g, '-') };
}

/** Whether a run's name is one of the trial with this digest: what stands before the digest's beginning varies with the name of the folder of images. */
export function isNameOf(name: string, digest: string): boolean {
  return name.endsWith(`-${digest.slice(0, DIGITS)}`);
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
