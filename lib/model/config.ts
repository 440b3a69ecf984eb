import { z } from 'zod';
import { UserError } from '../util/errors';
import { depth, dropRate, flag, parseOptions, positiveInteger } from '../util/options';
import { allowedNames } from '../util/suggest';
import { BLOCK_SETTINGS } from './blocks';

/** One value per stage. */
export type PerStage<T> = readonly [T, T, T, T];

const perStage = <V, I>(value: z.ZodType<V, I>) =>
  z.preprocess<unknown, z.ZodType<PerStage<V>>, PerStage<I> | string>(
    values => (typeof values === 'string' ? values.split(',') : values),
    z
      .array(value)
      .length(4, 'expected four values by stage, separated by commas on the command line')
      .transform(([first, second, third, fourth]): PerStage<V> => [first!, second!, third!, fourth!]),
  );

/**
 * EdgeViT as data: every setting with the official value where all variants have the same one. Variants are rows of it, ablations are
 * differences in it, and one code path builds them all. `BLOCK_SETTINGS` stand beside the blocks, those of the network here. The defaults are the
 * official code's; drop path is the default of its main.py.
 */
export const EDGEVIT_SETTINGS = z.strictObject({
  /** Side of the window that one delegate token stands for; 1 is full attention. */
  sampleRates: perStage(positiveInteger).default([4, 2, 2, 1]),
  /** Drop path rate of the last block; the first has 0, those between grow linearly. */
  dropPath: dropRate.default(0.1),
  /** Whether blocks open with LocalAgg. */
  localAgg: perStage(flag).default([true, true, true, false]),
  ...BLOCK_SETTINGS,
  /** LGL blocks. */
  depths: perStage(depth),
  /** Channels. */
  dims: perStage(positiveInteger),
  /** Attention heads. */
  heads: perStage(positiveInteger),
});

export type EdgeViTConfig = z.output<typeof EDGEVIT_SETTINGS>;

const variant = (own: Pick<z.input<typeof EDGEVIT_SETTINGS>, 'depths' | 'dims' | 'heads'>): EdgeViTConfig =>
  EDGEVIT_SETTINGS.parse(own);

/** The official constructors: github.com/saic-fi/edgevit at df3d070, `edgevit.py`; heads = dims / head_dim of 36, 48, 48. */
export const VARIANTS = {
  'edgevit-xxs': variant({ depths: [1, 1, 3, 2], dims: [36, 72, 144, 288], heads: [1, 2, 4, 8] }),
  'edgevit-xs': variant({ depths: [1, 1, 3, 1], dims: [48, 96, 240, 384], heads: [1, 2, 5, 8] }),
  'edgevit-s': variant({ depths: [1, 2, 5, 3], dims: [48, 96, 240, 384], heads: [1, 2, 5, 8] }),
};

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
    throw new UserError(`Unknown ablation '${ablation}': ${allowedNames(ablation, Object.keys(ABLATIONS))}`);
  }
  const config = { ...VARIANTS[variant], ...ABLATIONS[ablation as Ablation] };
  return ablation === 'pseudocode' ? { ...config, depths: PSEUDOCODE_DEPTHS[variant] ?? config.depths } : config;
}

/**
 * A configuration with some settings replaced. Values may be text (from the command line) or already typed (from a file);
 * undefined leaves a key as it is. Throws UserError for keys that do not exist and values that are not allowed.
 */
export function withSettings<S extends z.ZodObject>(
  name: string,
  schema: S,
  config: z.output<S>,
  settings: Record<string, unknown>,
): z.output<S> {
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  return parseOptions(schema, { ...config, ...Object.fromEntries(given) }, name);
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
