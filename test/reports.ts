import type { Tradeoffs } from '../lib/runs/tradeoffs';
import type { TrialResult } from '../lib/runs/trialResults';
import { random } from '../lib/util/random';

/** A row of results, made up but for what is given. */
export function madeUpRow(variant: string, seed: number, top1: number, more: Partial<TrialResult> = {}): TrialResult {
  return {
    variant,
    seed,
    top1,
    trial: `${variant}-${seed}`,
    budget: 'a',
    data: 'flowers12',
    train: 720,
    test: 240,
    classes: 12,
    model: 'edgevit-xxs',
    height: 96,
    width: 96,
    epochs: 3,
    batch: 16,
    params: 4e6,
    macs: 1e8,
    top5: 1,
    loss: 1,
    curve: [top1 / 3, top1 / 2, top1],
    imagesPerSecond: 100,
    weights: '',
    engine: 'TensorFlow',
    cpu: 'a processor',
    threads: 2,
    code: '',
    numerics: 0,
    origin: null,
    ...more,
  };
}

/** Each variant's accuracy, its millions of MACs, and how many pixels its images have: invented. */
const MADE_UP: Record<string, Record<string, [top1: number, macs: number, size?: number]>> = {
  lgl: {
    full: [0.8, 102],
    noLocalAgg: [0.71, 62],
    noAttention: [0.78, 91],
    noLocalProp: [0.79, 101],
    localAggOnly: [0.8, 105],
  },
  delegates: { topleft: [0.8, 102], mean: [0.82, 102], max: [0.81, 103] },
  'sample-rates': {
    '4,2,2,1': [0.8, 102],
    '1,1,1,1': [0.79, 133],
    '2,1,1,1': [0.8, 118],
    '2,2,1,1': [0.81, 110],
    '2,2,2,1': [0.8, 105],
    '4,4,2,1': [0.79, 101],
    '8,4,2,1': [0.78, 100],
    '4,2,2,2': [0.8, 99],
    '8,8,4,2': [0.75, 97],
  },
  attention: Object.fromEntries(
    [64, 96, 128].flatMap((size, i) => [
      [`sparse-${size}`, [0.7 + 0.05 * i, 44 * (size / 64) ** 2, size]],
      [`full-${size}`, [0.71 + 0.05 * i, 44 * (size / 64) ** 2.6, size]],
    ]),
  ),
  variants: {
    'edgevit-xxs': [0.8, 102],
    'edgevit-xs': [0.82, 209],
    'edgevit-s': [0.85, 353],
    'mobilenet-v2': [0.72, 56],
    'vit-tiny': [0.6, 226],
  },
};

const PARAMS: Record<string, number> = {
  'edgevit-xs': 6.4e6,
  'edgevit-s': 12.7e6,
  'mobilenet-v2': 2.2e6,
  'vit-tiny': 5.5e6,
};

/** Rows under all the names that experiments give them, three seeds of each variant. */
export function madeUpResults(): Record<string, TrialResult[]> {
  const rng = random('results');
  const rows = (variants: (typeof MADE_UP)[string]): TrialResult[] =>
    Object.entries(variants).flatMap(([variant, [top1, macs, size = 96]]) =>
      [0, 1, 2].map(seed =>
        madeUpRow(variant, seed, Number((top1 + 0.015 * rng.normal()).toFixed(4)), {
          macs: Math.round(macs * 1e6),
          params: PARAMS[variant] ?? 3_780_438,
          height: size,
          width: size,
        }),
      ),
    );
  return Object.fromEntries(Object.entries(MADE_UP).map(([name, variants]) => [name, rows(variants)]));
}

const times = (value: number): { value: number; low: number; high: number } => ({
  value,
  low: 0.95 * value,
  high: 1.1 * value,
});

export const MADE_UP_TRADEOFFS: Tradeoffs = {
  machine: { cpu: 'a processor', cores: 2, engine: 'TensorFlow', node: 'v20' },
  size: [224, 224],
  models: [
    ['edgevit-xxs', 4.07, 551, 16],
    ['edgevit-xs', 6.77, 1128, 21],
    ['edgevit-s', 13.1, 1911, 33],
    ['mobilenet-v2', 3.5, 301, 11],
    ['vit-tiny', 5.7, 1254, 24],
  ].map(([model, params, macs, ms]) => ({
    model: String(model),
    classes: 1000,
    params: 1e6 * Number(params),
    macs: 1e6 * Number(macs),
    milliseconds: times(Number(ms)),
    p90: times(1.2 * Number(ms)),
    p99: null,
  })),
};
