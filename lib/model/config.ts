import { oneOf, UserError } from '../util/errors';

/** One value per stage. */
export type PerStage<T> = readonly [T, T, T, T];

/** EdgeViT as data. Variants are rows of it, ablations are differences in it, and one code path builds them all. */
export interface EdgeViTConfig {
  /** LGL blocks. */
  depths: PerStage<number>;
  /** Channels. */
  dims: PerStage<number>;
  /** Attention heads. */
  heads: PerStage<number>;
  /** Side of the window that one delegate token stands for; 1 is full attention. */
  sampleRates: PerStage<number>;
  /** Hidden channels of the feed-forward networks, relative to dims. */
  mlpRatio: number;
  /** Drop path rate of the last block; the first has 0, those between grow linearly. */
  dropPath: number;
  /** Whether blocks open with LocalAgg. */
  localAgg: PerStage<boolean>;
  /** Whether blocks attend; without, the residual GSA(LN(x)) is gone, position encoding and feed-forward stay. */
  attention: boolean;
  /** Whether delegates attend to each other; without, each hands on what it saw, and there is no qkv. */
  delegatesAttend: boolean;
  /** What stands for a window in attention: its top-left pixel, mean or maximum. */
  delegate: 'topleft' | 'mean' | 'max';
  /**
   * How a delegate's result returns to its window: the learned transposed convolution, upsampling without parameters, or not at
   * all: to its top-left pixel alone, and the others get zero.
   */
  localProp: 'transposed' | 'nearest' | 'bilinear' | 'none';
  /** Kernel of LocalAgg's depthwise convolution. */
  localAggKernel: number;
  /** A second batch norm in LocalAgg, before its last 1×1 convolution. */
  localAggNorm: boolean;
  /** Norm of patch embedding and LocalProp: per token over channels, or over the whole picture. */
  norm: 'layer' | 'group';
  /** Norms before attention and the feed-forward networks. */
  preNorm: boolean;
  /** Whether attention logits are divided by √headDim. */
  attentionScale: boolean;
  /** How the channels of qkv split. */
  qkvOrder: 'qkv-head' | 'head-qkv';
  /** Biases of the query, key and value projection. */
  qkvBias: boolean;
  /** Biases of all other convolutions and linear layers, except LocalProp's and the head's, which stay. */
  bias: boolean;
  /** Epsilon of the norms before attention and feed-forward. */
  blockNormEps: number;
  /** Epsilon of the norms of patch embedding and LocalProp. */
  normEps: number;
  batchNormEps: number;
}

/** What the official code fixes for all variants; drop path is the default of its main.py. */
const OFFICIAL = {
  sampleRates: [4, 2, 2, 1],
  mlpRatio: 4,
  dropPath: 0.1,
  localAgg: [true, true, true, false],
  attention: true,
  delegatesAttend: true,
  delegate: 'topleft',
  localProp: 'transposed',
  localAggKernel: 5,
  localAggNorm: false,
  norm: 'layer',
  preNorm: true,
  attentionScale: true,
  qkvOrder: 'qkv-head',
  qkvBias: true,
  bias: true,
  blockNormEps: 1e-6,
  normEps: 1e-5,
  batchNormEps: 1e-5,
} as const;

/** The official constructors: github.com/saic-fi/edgevit at df3d070, `edgevit.py`; heads = dims / head_dim of 36, 48, 48. */
export const VARIANTS = {
  'edgevit-xxs': { ...OFFICIAL, depths: [1, 1, 3, 2], dims: [36, 72, 144, 288], heads: [1, 2, 4, 8] },
  'edgevit-xs': { ...OFFICIAL, depths: [1, 1, 3, 1], dims: [48, 96, 240, 384], heads: [1, 2, 5, 8] },
  'edgevit-s': { ...OFFICIAL, depths: [1, 2, 5, 3], dims: [48, 96, 240, 384], heads: [1, 2, 5, 8] },
} as const satisfies Record<string, EdgeViTConfig>;

export type Variant = keyof typeof VARIANTS;

/** What each ablation changes. A delegate for every window (`sampleRates` 1) leaves no window, so no LocalProp either. */
export const ABLATIONS = {
  localAggOnly: { attention: false, localAgg: [true, true, true, true] },
  noLocalAgg: { localAgg: [false, false, false, false] },
  noAttention: { delegatesAttend: false },
  noLocalProp: { localProp: 'none' },
  localPropNearest: { localProp: 'nearest' },
  localPropBilinear: { localProp: 'bilinear' },
  fullAttention: { sampleRates: [1, 1, 1, 1] },
  delegateMean: { delegate: 'mean' },
  delegateMax: { delegate: 'max' },
  /** The paper's pseudo-code, as second-hand sources print it, where it differs from the official code. */
  pseudocode: {
    heads: [1, 2, 4, 8],
    localAgg: [true, true, true, true],
    localAggKernel: 3,
    localAggNorm: true,
    norm: 'group',
    preNorm: false,
    attentionScale: false,
    qkvOrder: 'head-qkv',
    qkvBias: false,
    bias: false,
  },
} as const satisfies Record<string, Partial<EdgeViTConfig>>;

export type Ablation = keyof typeof ABLATIONS;

/** The pseudo-code's depths, which differ by variant, and so belong to no ablation alone. */
const PSEUDOCODE_DEPTHS: Partial<Record<Variant, PerStage<number>>> = {
  'edgevit-xs': [1, 1, 2, 2],
  'edgevit-s': [1, 2, 3, 2],
};

/** A variant with an ablation. Throws UserError for names that do not exist. */
export function ablate(variant: Variant, ablation?: string): EdgeViTConfig {
  if (ablation === undefined) return VARIANTS[variant];
  if (!Object.hasOwn(ABLATIONS, ablation)) {
    throw new UserError(`Unknown ablation '${ablation}': allowed are ${oneOf(Object.keys(ABLATIONS))}.`);
  }
  const config = { ...VARIANTS[variant], ...ABLATIONS[ablation as Ablation] };
  return ablation === 'pseudocode' ? { ...config, depths: PSEUDOCODE_DEPTHS[variant] ?? config.depths } : config;
}

/** Reads one value of a configuration from text; `allowed` completes "… must be". */
export interface Field<T> {
  allowed: string;
  parse(text: string): T | undefined;
}

/** How each key of a configuration is read. */
export type Fields<C> = { readonly [K in keyof C]-?: Field<C[K]> };

const number = (allowed: string, accepts: (value: number) => boolean): Field<number> => ({
  allowed,
  parse: text => (text.trim() !== '' && accepts(Number(text)) ? Number(text) : undefined),
});
export const positiveInteger = number('a positive integer', value => Number.isSafeInteger(value) && value > 0);
export const positive = number('a positive number', value => Number.isFinite(value) && value > 0);
/** A probability below 1. */
export const dropRate = number('at least 0 and below 1', value => value >= 0 && value < 1);
const oddInteger = number(
  'a positive odd integer',
  value => Number.isSafeInteger(value) && value > 0 && value % 2 === 1,
);
export const choice = <T extends string>(...names: T[]): Field<T> => ({
  allowed: oneOf(names),
  parse: text => names.find(name => name === text),
});
const boolean: Field<boolean> = {
  allowed: oneOf(['true', 'false']),
  parse: text => (text === 'true' ? true : text === 'false' ? false : undefined),
};
const perStage = <T>(field: Field<T>): Field<PerStage<T>> => ({
  allowed: `four values by stage, separated by commas, each ${field.allowed}`,
  parse(text) {
    const values = text.split(',').map(part => field.parse(part));
    return values.length === 4 && values.every(value => value !== undefined)
      ? (values as unknown as PerStage<T>)
      : undefined;
  },
});

export const EDGEVIT_FIELDS: Fields<EdgeViTConfig> = {
  depths: perStage(positiveInteger),
  dims: perStage(positiveInteger),
  heads: perStage(positiveInteger),
  sampleRates: perStage(positiveInteger),
  mlpRatio: positive,
  dropPath: dropRate,
  localAgg: perStage(boolean),
  attention: boolean,
  delegatesAttend: boolean,
  delegate: choice('topleft', 'mean', 'max'),
  localProp: choice('transposed', 'nearest', 'bilinear', 'none'),
  localAggKernel: oddInteger,
  localAggNorm: boolean,
  norm: choice('layer', 'group'),
  preNorm: boolean,
  attentionScale: boolean,
  qkvOrder: choice('qkv-head', 'head-qkv'),
  qkvBias: boolean,
  bias: boolean,
  blockNormEps: positive,
  normEps: positive,
  batchNormEps: positive,
};

/**
 * A configuration with some values replaced. Values may be text (from the command line) or already typed (from a file);
 * undefined leaves a key as it is. Throws UserError for keys that do not exist and values that do not parse.
 */
export function override<C extends object>(
  name: string,
  fields: Fields<C>,
  config: C,
  values: Record<string, unknown>,
): C {
  const result = { ...config };
  for (const [key, value] of Object.entries(values)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(fields, key)) {
      const keys = Object.keys(fields);
      throw new UserError(
        `${name} has no setting '${key}'${keys.length ? `: allowed are ${oneOf(keys)}` : ', nor any other'}.`,
      );
    }
    const field = fields[key as keyof C];
    const parsed = field.parse(String(value));
    if (parsed === undefined)
      throw new UserError(`${name}'s ${key} is '${String(value)}' but must be ${field.allowed}.`);
    result[key as keyof C] = parsed;
  }
  return result;
}

/** `['sampleRates=4,2,2,1', 'delegate=mean']` → `{ sampleRates: '4,2,2,1', delegate: 'mean' }`, as `--set` gives them. */
export function parseSettings(settings: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    settings.map(setting => {
      const at = setting.indexOf('=');
      if (at < 1) throw new UserError(`Setting '${setting}' must be key=value.`);
      return [setting.slice(0, at), setting.slice(at + 1)];
    }),
  );
}

/** EdgeViT's configuration with settings applied: `applyOverrides(VARIANTS['edgevit-xxs'], ['sampleRates=2,2,2,1'])`. */
export function applyOverrides(config: EdgeViTConfig, settings: readonly string[]): EdgeViTConfig {
  return override('EdgeViT', EDGEVIT_FIELDS, config, parseSettings(settings));
}
