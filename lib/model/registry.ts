import type { z } from 'zod';
import { UserError } from '../util/errors';
import { allowedNames } from '../util/suggest';
import type { Architecture, Size } from './architecture';
import { ARTICLE_MODELS } from './baselines/article';
import { MOBILENET_V2_MODELS } from './baselines/mobilenetV2';
import { VIT_MODELS } from './baselines/vit';
import { parseSettings, withSettings } from './config';
import { type Counts, Tally } from './count';
import { describeModel, INSPECT } from './describe';
import { EDGEVIT_MODELS } from './edgevit';
import { defineModel, type Layer, type Model, type Scope } from './module';

/** All networks by name. A new one is a file that exports its entry, and a line here. */
const ARCHITECTURES = { ...EDGEVIT_MODELS, ...ARTICLE_MODELS, ...MOBILENET_V2_MODELS, ...VIT_MODELS };

export type ModelName = keyof typeof ARCHITECTURES;

/** The configuration of a network, by its name. */
export type ModelConfig<N extends ModelName> = z.output<(typeof ARCHITECTURES)[N]['settings']>;

/** Names that `createModel` takes. */
export const MODELS: readonly string[] = Object.keys(ARCHITECTURES);

export interface ModelOptions {
  numClasses: number;
  /** Side of a square image, or [height, width]. */
  size: number | readonly [number, number];
  /** A name of `ABLATIONS`; EdgeViT only. */
  ablation?: string;
  /** Settings as the command line gives them: `['sampleRates=2,2,2,1']`. */
  set?: readonly string[];
}

/**
 * What `createModel` takes for a name: beside the options the settings of that network, so that a model's own `config` rebuilds it. Of a name that is
 * known at run time only, any settings.
 */
export type OptionsOf<N extends string> = ModelOptions &
  (N extends ModelName
    ? SettingsOf<z.input<(typeof ARCHITECTURES)[N]['settings']>>
    : string extends N
      ? Record<string, unknown>
      : unknown);

/** A network without settings has zod's index signature, which would refuse the options too. */
type SettingsOf<I> = string extends keyof I ? unknown : Partial<I>;

type ConfigOf<N extends string> = N extends ModelName ? ModelConfig<N> : object;

/** A network's configuration, resolved and checked, before anything is built. */
export type ResolvedModel<C extends object = object> = Pick<Model<C>, 'name' | 'config' | 'numClasses' | 'inputSize'>;

/** What the lab knows of a network. Throws UserError for a name that does not exist. */
export function architectureOf(name: string): Architecture {
  if (!Object.hasOwn(ARCHITECTURES, name))
    throw new UserError(`Unknown model '${name}': ${allowedNames(name, MODELS)}`);
  return ARCHITECTURES[name as ModelName] as unknown as Architecture;
}

/** In pixels. One image of this size alone is 200 MB; files claim more, and memory is not taken on a claim. */
const MAX_SIDE = 4096;

/** Fills in a network's configuration and checks it, without building. Throws as `createModel`. */
export function resolveModel<N extends string>(name: N, options: OptionsOf<N>): ResolvedModel<ConfigOf<N>> {
  const { numClasses, size, ablation, set = [], ...settings } = options as ModelOptions & Record<string, unknown>;
  const { settings: schema, published, ablate, check } = architectureOf(name);
  if (!Number.isSafeInteger(numClasses) || numClasses < 1)
    throw new UserError(`The number of classes is '${numClasses}' but must be a positive integer.`);
  const inputSize: Size = typeof size === 'number' ? [size, size] : size;
  if (inputSize.length !== 2 || inputSize.some(side => !Number.isSafeInteger(side) || side < 1 || side > MAX_SIDE)) {
    throw new UserError(
      `The image size is '${String(size)}' but must be a positive integer up to ${MAX_SIDE}, or two (height and width).`,
    );
  }
  if (ablation !== undefined && !ablate)
    throw new UserError(`${name} has no ablations, so not '${ablation}' either: they are EdgeViT's.`);
  const base = ablation === undefined ? published : ablate!(ablation);
  const config = withSettings(name, schema, base, { ...settings, ...parseSettings(set) });
  check?.(name, config, inputSize);
  return { name, config: config as ConfigOf<N>, numClasses, inputSize };
}

/**
 * A network by name: an EdgeViT variant with any ablation and settings, the article's, or a baseline. Throws UserError
 * for names and settings that do not exist, values that are not allowed, and sizes that do not fit.
 */
export function createModel<N extends string>(name: N, options: OptionsOf<N>): Model<ConfigOf<N>> {
  return buildModel(resolveModel(name, options));
}

/** Builds a network from its resolved configuration. Printed or shown in a notebook it is the table of its layers. */
export function buildModel<C extends object>(resolved: ResolvedModel<C>): Model<C> {
  const { name, config, numClasses, inputSize } = resolved;
  const build = (scope: Scope): Layer => architectureOf(name).build(scope, config as never, numClasses, inputSize);
  const model = defineModel(resolved, build);
  return Object.defineProperty(model, INSPECT, { value: () => describeModel(resolved, countConfig(resolved)) });
}

/** The parameters whose shape the number of classes decides. */
export function headOf(model: Model): string[] {
  const { name, config, numClasses, inputSize } = model;
  const other = createModel(name, { ...config, numClasses: numClasses + 1, size: inputSize });
  const shapes = new Map(other.params.map(spec => [spec.name, spec.shape.join()]));
  return model.params.filter(spec => shapes.get(spec.name) !== spec.shape.join()).map(spec => spec.name);
}

/** Parameters and MACs per image by arithmetic alone, by the name of the module that owns the parameters or does the work. */
export function countConfig({ name, config, numClasses, inputSize }: ResolvedModel): Counts {
  const tally = new Tally();
  architectureOf(name).count(tally, config as never, numClasses, inputSize);
  return tally.counts;
}

/** `224` or `192x256` (height x width) → a size for `createModel`. Throws UserError for anything else. */
export function parseSize(text: string): readonly [height: number, width: number] {
  const sides = /^(\d+)(?:x(\d+))?$/.exec(text);
  if (!sides)
    throw new UserError(
      `The image size is '${text}' but must be a side in pixels, like 224, or height and width, like 192x256.`,
    );
  return [Number(sides[1]), Number(sides[2] ?? sides[1])];
}
