import { z } from 'zod';
import { oneOf, UserError } from '../util/errors';
import { article, checkArticle } from './baselines/article';
import { MOBILENET_V2, MOBILENET_V2_SETTINGS, mobileNetV2 } from './baselines/mobilenetV2';
import { checkViT, VIT_SETTINGS, VIT_TINY, viT } from './baselines/vit';
import { ablate, EDGEVIT_SETTINGS, parseSettings, VARIANTS, type Variant, withSettings } from './config';
import { checkEdgeViT, edgeViT } from './edgevit';
import { defineModel, type Layer, type Model, type Scope } from './module';

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

interface Request {
  name: string;
  numClasses: number;
  size: readonly [number, number];
  settings: Record<string, unknown>;
  ablation?: string;
}

/** The resolved configuration of a network and its builder. */
interface Plan {
  config: object;
  build(scope: Scope): Layer;
}

const PLANS: Record<string, (request: Request) => Plan> = {
  ...Object.fromEntries(Object.keys(VARIANTS).map(variant => [variant, planEdgeViT])),
  article: request => planArticle(request, false),
  'article-as-printed': request => planArticle(request, true),
  'mobilenet-v2': planMobileNetV2,
  'vit-tiny': planViT,
};

const NO_SETTINGS = z.strictObject({});

/** Names that `createModel` takes. */
export const MODELS: readonly string[] = Object.keys(PLANS);

/**
 * A network by name: an EdgeViT variant with any ablation and settings, the article's, or a baseline. Throws UserError
 * for names and settings that do not exist, values that do not parse, and sizes that do not fit.
 */
export function createModel(name: string, options: ModelOptions): Model {
  const { numClasses, size, ablation, set = [], ...settings } = options;
  if (!Object.hasOwn(PLANS, name)) throw new UserError(`Unknown model '${name}': allowed are ${oneOf(MODELS)}.`);
  if (!Number.isSafeInteger(numClasses) || numClasses < 1)
    throw new UserError(`The number of classes is '${numClasses}' but must be a positive integer.`);
  const inputSize = typeof size === 'number' ? ([size, size] as const) : size;
  if (inputSize.length !== 2 || inputSize.some(side => !Number.isSafeInteger(side) || side < 1)) {
    throw new UserError(
      `The picture size is '${String(size)}' but must be a positive integer, or two (height and width).`,
    );
  }
  if (ablation !== undefined && !Object.hasOwn(VARIANTS, name))
    throw new UserError(`${name} has no ablations, so not '${ablation}' either: they are EdgeViT's.`);
  const { config, build } = PLANS[name]({
    name,
    numClasses,
    size: inputSize,
    settings: { ...settings, ...parseSettings(set) },
    ablation,
  });
  return defineModel({ name, config, numClasses, inputSize }, build);
}

function planEdgeViT({ name, numClasses, size, settings, ablation }: Request): Plan {
  const config = withSettings(name, EDGEVIT_SETTINGS, ablate(name as Variant, ablation), settings);
  checkEdgeViT(name, config, size);
  return { config, build: scope => edgeViT(scope, config, numClasses) };
}

function planArticle({ name, numClasses, size, settings }: Request, asPrinted: boolean): Plan {
  checkArticle(name, size, asPrinted);
  return {
    config: withSettings(name, NO_SETTINGS, {}, settings),
    build: scope => article(scope, numClasses, size, asPrinted),
  };
}

function planMobileNetV2({ name, numClasses, settings }: Request): Plan {
  const config = withSettings(name, MOBILENET_V2_SETTINGS, MOBILENET_V2, settings);
  return { config, build: scope => mobileNetV2(scope, config, numClasses) };
}

function planViT({ name, numClasses, size, settings }: Request): Plan {
  const config = withSettings(name, VIT_SETTINGS, VIT_TINY, settings);
  checkViT(name, config, size);
  return { config, build: scope => viT(scope, config, numClasses, size) };
}

/** `224` or `192x256` (height x width) → a size for `createModel`. Throws UserError for anything else. */
export function parseSize(text: string): readonly [height: number, width: number] {
  const sides = /^(\d+)(?:x(\d+))?$/.exec(text);
  if (!sides)
    throw new UserError(
      `The picture size is '${text}' but must be a side in pixels, like 224, or height and width, like 192x256.`,
    );
  return [Number(sides[1]), Number(sides[2] ?? sides[1])];
}
