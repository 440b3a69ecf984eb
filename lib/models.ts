import { EDGEVIT_FIELDS, VARIANTS, ablate, override, parseSettings, type Variant } from './config';
import { checkEdgeViT, edgeViT } from './edgevit';
import { UserError, oneOf } from './errors';
import { defineModel, type Model } from './module';

export interface ModelOptions {
  numClasses: number;
  /** Side of a square picture, or [height, width]. */
  size: number | readonly [number, number];
  /** A name of `ABLATIONS`; EdgeViT only. */
  ablation?: string;
  /** Settings as the command line gives them: `['sampleRates=2,2,2,1']`. */
  set?: readonly string[];
  /** Any other key is a setting of the model's configuration; a model's own `config` rebuilds it. */
  [setting: string]: unknown;
}

/** Builds a network by its configuration, or stops with a UserError. */
type Builder = (name: string, numClasses: number, size: readonly [number, number], settings: Record<string, unknown>, ablation?: string) => Model;

const BUILDERS: Record<string, Builder> = {
  ...Object.fromEntries(Object.keys(VARIANTS).map(name => [name, buildEdgeViT])),
};

/** Names that `createModel` takes. */
export const MODELS: readonly string[] = Object.keys(BUILDERS);

/**
 * A network by name: an EdgeViT variant with any ablation and settings, or a baseline. Throws UserError for unknown
 * names and settings, values that do not parse, and sizes that do not fit.
 */
export function createModel(name: string, options: ModelOptions): Model {
  const { numClasses, size, ablation, set = [], ...settings } = options;
  if (!Object.hasOwn(BUILDERS, name)) throw new UserError(`Unknown model '${name}': allowed are ${oneOf(MODELS)}.`);
  if (!Number.isSafeInteger(numClasses) || numClasses < 1) throw new UserError(`The number of classes is '${numClasses}' but must be a positive integer.`);
  const sides = typeof size === 'number' ? ([size, size] as const) : size;
  if (sides.length !== 2 || sides.some(side => !Number.isSafeInteger(side) || side < 1)) {
    throw new UserError(`The picture size is '${String(size)}' but must be a positive integer, or two (height and width).`);
  }
  return BUILDERS[name](name, numClasses, sides, { ...settings, ...parseSettings(set) }, ablation);
}

function buildEdgeViT(name: string, numClasses: number, inputSize: readonly [number, number], settings: Record<string, unknown>, ablation?: string): Model {
  const config = override(name, EDGEVIT_FIELDS, ablate(name as Variant, ablation), settings);
  checkEdgeViT(name, config, inputSize);
  return defineModel({ name, config, numClasses, inputSize }, scope => edgeViT(scope, config, numClasses));
}
