/*
 * Whose names a state dict has. A map is data: which keys are its own, how each becomes an official name
 * (github.com/saic-fi/edgevit at df3d070), and what else must differ from the official configuration for the weights to mean the same.
 */

export interface KeyMap {
  /** For people: whose files these are. */
  about: string;
  /** A key that no other layout has. */
  recognise: RegExp;
  /** Applied in order, each to what the one before left. */
  rename: readonly (readonly [RegExp, string])[];
  /** Settings of the model's configuration that these weights were trained with. */
  settings?: Readonly<Record<string, number>>;
  /** Parameters that the layout has no entry for, and the value that they all have there. */
  constant?: readonly (readonly [RegExp, number])[];
}

/** `stages.0` → 1: these layouts count stages from 0, the official code from 1. */
const counted = (prefix: string, suffix: string, name: (stage: number) => string): (readonly [RegExp, string])[] =>
  [0, 1, 2, 3].map(stage => [new RegExp(`^${prefix}${stage}${suffix}`), name(stage + 1)] as const);

const SNAKE_CASE = [
  [/\.local_agg\./, '.LocalAgg.'],
  [/\.self_attn\./, '.SelfAttn.'],
  [/\.local_prop\./, '.LocalProp.'],
] as const;

export const KEY_MAPS = {
  official: {
    about: 'the official code, and what this lab writes',
    recognise: /^patch_embed1\.proj\.weight$/,
    rename: [],
  },
  /** github.com/alibaba/EasyCV, easycv/models/backbones/edgevit.py: layer norms before attention and FFN have eps 1e-8. */
  easycv: {
    about: 'EasyCV',
    recognise: /^backbone\.patch_embed1\.proj\.weight$/,
    rename: [
      [/^backbone\./, ''],
      [/^head\.fc_cls\./, 'head.'],
    ],
    settings: { blockNormEps: 1e-8 },
  },
  /** PyPI birder, birder/net/edgevit.py: a head without bias unless `head_bias`. */
  birder: {
    about: 'birder',
    recognise: /^body\.stage1\.patch_embed\.proj\.weight$/,
    rename: [
      [/^body\.stage(\d)\.patch_embed\./, 'patch_embed$1.'],
      [/^body\.stage(\d)\.blocks\./, 'blocks$1.'],
      ...SNAKE_CASE,
      [/^features\.0\./, 'norm.'],
      [/^classifier\./, 'head.'],
    ],
    constant: [[/^head\.bias$/, 0]],
  },
  /** timm has no EdgeViT; this is how its models are named, for those who ported one: stages from 0, `head.fc`, snake case. */
  timm: {
    about: "timm's style",
    recognise: /^stages\.0\.(downsample|patch_embed)\.proj\.weight$/,
    rename: [
      ...counted('stages\\.', '\\.(?:downsample|patch_embed)\\.', stage => `patch_embed${stage}.`),
      ...counted('stages\\.', '\\.blocks\\.', stage => `blocks${stage}.`),
      ...SNAKE_CASE,
      [/^head\.fc\./, 'head.'],
      [/^head\.norm\./, 'norm.'],
    ],
  },
} as const satisfies Record<string, KeyMap>;

export type KeyMapName = keyof typeof KEY_MAPS;

/** The map whose own key is among `keys`; undefined where none is. */
export function recogniseKeys(keys: Iterable<string>): KeyMapName | undefined {
  const all = [...keys];
  return (Object.keys(KEY_MAPS) as KeyMapName[]).find(name => all.some(key => KEY_MAPS[name].recognise.test(key)));
}

/** The official name of a key. */
export function officialName(map: KeyMapName, key: string): string {
  return KEY_MAPS[map].rename.reduce((name: string, [pattern, to]) => name.replace(pattern, to), key);
}
