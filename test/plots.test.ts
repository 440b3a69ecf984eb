import Ajv from 'ajv';
import vegaLiteSchema from 'vega-lite/vega-lite-schema.json';
import { beforeAll, describe, expect, test } from 'vitest';
import { type AttentionResult, attentionAccuracy, attentionCost } from '../lib/charts/attention';
import { confusionMatrix, perClassAccuracy } from '../lib/charts/classes';
import { learningCurve, runCurves, variantCurves } from '../lib/charts/curves';
import { accuracies, differences } from '../lib/charts/intervals';
import { toPdf } from '../lib/charts/pdf';
import { PNG_SCALE, toPng } from '../lib/charts/png';
import { sampleRateAccuracy, sampleRateCost } from '../lib/charts/sampleRates';
import { toSvg } from '../lib/charts/svg';
import { countedAndReported, type Point, paretoFront, reportedTradeoff, tradeoff } from '../lib/charts/tradeoffs';
import { REPORTED } from '../lib/measure/reported';
import { meanInterval } from '../lib/measure/statistics';
import type { EpochRow } from '../lib/runs/metrics';
import { byVariant } from '../lib/runs/trialResults';
import { createMeter } from '../lib/train/metrics';
import { madeUpRow } from './reports';

const epoch = (epoch: number): EpochRow => ({
  kind: 'epoch',
  step: epoch,
  epoch,
  learningRate: 1,
  trainLoss: 1 / epoch,
  trainTop1: 0.5,
  on: 'val',
  evalLoss: 2 / epoch,
  evalTop1: 0.25,
  evalTop5: 1,
  imagesPerSecond: null,
});
const epochs = (count: number): EpochRow[] => Array.from({ length: count }, (_, i) => epoch(i + 1));

const evaluation = (classes: number, outputs = classes) => {
  const meter = createMeter(
    Array.from({ length: classes }, (_, i) => `class ${i}`),
    outputs,
  );
  for (let label = 0; label < classes; label++)
    meter.add(
      Float32Array.from({ length: outputs }, (_, i) => Number(i === outputs - 1 - label)),
      Int32Array.of(label),
    );
  return meter.result();
};

const variants = byVariant(
  ['full', 'less', 'other'].flatMap((variant, v) =>
    [0, 1, 2].map(seed => madeUpRow(variant, seed, 0.6 + 0.05 * v + 0.01 * seed * (v - 1), { macs: 4e7 + 1e7 * v })),
  ),
  'full',
);
const networks: Point[] = ['small', 'large', 'beaten'].map((model, i) => ({
  model,
  top1: meanInterval([0.5 + 0.1 * (i % 2), 0.52 + 0.1 * (i % 2)]),
  params: (i + 1) * 1e6,
  macs: (i + 1) * 1e8,
  milliseconds: i === 2 ? undefined : { value: i + 1, low: i + 0.9, high: i + 1.2 },
}));
const attention: AttentionResult[] = [64, 96].flatMap(size =>
  (['sparse', 'full'] as const).map(attention => ({
    attention,
    size,
    macs: size * 1e6,
    top1: meanInterval([0.5, 0.6]),
  })),
);
const counted = [
  { model: 'edgevit-xxs', params: 4e6, macs: 5.5e8 },
  { model: 'mobilenet-v2', params: 3.5e6, macs: 3e8 },
];

/** Every chart, and how many marks of which kind it must hold. */
const CHARTS = {
  accuracies: [accuracies(variants, 'title', 'seen'), { rule: 3, symbol: 3, rect: 9 }],
  differences: [
    differences(
      variants.slice(1).map(({ variant, difference }) => ({ variant, difference: difference! })),
      'full',
      'title',
    ),
    { rect: 2 + 4, rule: 3 },
  ],
  'trade-off by MACs': [tradeoff(networks, 'macs', 'title'), { line: 1, rule: 3, symbol: 3, text: 3 }],
  'trade-off by parameters': [tradeoff(networks, 'params', 'title'), { rule: 3, symbol: 3, text: 3 }],
  'trade-off by time': [tradeoff(networks, 'milliseconds', 'title'), { rule: 4, symbol: 2, text: 2 }],
  'reported by MACs': [reportedTradeoff(REPORTED, 'macs', 'title'), { symbol: 12 }],
  'reported by parameters': [reportedTradeoff(REPORTED, 'params', 'title'), { symbol: 12 }],
  'reported by time': [reportedTradeoff(REPORTED, 'phoneMs', 'title'), { symbol: 9 }],
  'counted parameters': [countedAndReported(counted, REPORTED, 'params', 'title'), { symbol: 4 }],
  'counted MACs': [countedAndReported(counted, REPORTED, 'macs', 'title'), { symbol: 4 }],
  'accuracy by sample rates': [sampleRateAccuracy(variants, 'title'), { line: 1, rule: 3, symbol: 3 }],
  'MACs by sample rates': [sampleRateCost(variants, 'title'), { line: 1, symbol: 3 }],
  'accuracy by resolution': [attentionAccuracy(attention, 'title'), { rule: 4, symbol: 4 }],
  'MACs by resolution': [attentionCost(attention, 'title'), { line: 2, symbol: 4 }],
  "variants' learning curves": [variantCurves(variants, 'title'), { line: 3 }],
  "runs' learning curves": [
    runCurves(
      [
        { name: 'a', epochs: epochs(3) },
        { name: 'b', epochs: epochs(4) },
      ],
      'loss',
      'title',
    ),
    { line: 4 },
  ],
  'learning curve of 1 epoch': [learningCurve(epochs(1), 'run'), { line: 4, symbol: 4 }],
  'learning curve of 40 epochs': [learningCurve(epochs(40), 'run'), { line: 4, symbol: 0 }],
  'accuracy by class': [perClassAccuracy(evaluation(4)), { rect: 4, text: 4 }],
  'confusion of 2 classes': [confusionMatrix(evaluation(2)), { rect: 2, text: 2 }],
  'confusion of 30 classes': [confusionMatrix(evaluation(30)), { rect: 30, text: 0 }],
  'confusion with more outputs than classes': [confusionMatrix(evaluation(3, 5)), { rect: 3 }],
} as const;

/** Marks of a kind with a place in the drawing. */
function marks(svg: string, kind: string): number {
  const groups = svg.match(new RegExp(`mark-${kind} role-mark[^>]*>.*?</g>`, 'gs')) ?? [];
  return groups.reduce((count, group) => count + (group.match(/<(path|line|text)\b/g)?.length ?? 0), 0);
}

describe.each(Object.entries(CHARTS))('%s', (_, [spec, expected]) => {
  let validate: ReturnType<Ajv['compile']>;
  let svg: string;
  beforeAll(async () => {
    validate = schema();
    svg = await toSvg(spec);
  });

  test('is valid Vega-Lite', () => {
    expect(validate(JSON.parse(JSON.stringify(spec))), JSON.stringify(validate.errors?.slice(0, 3))).toBe(true);
  });

  test('is drawn, each mark with a place', () => {
    const drawn = Object.fromEntries(Object.keys(expected).map(kind => [kind, marks(svg, kind)]));
    expect(drawn).toEqual(expected);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });

  test('is an image of its size', async () => {
    const [, width, height] = /<svg [^>]*width="([\d.]+)" height="([\d.]+)"/.exec(svg)!.map(Number);
    const png = await toPng(svg);
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual(
      [width, height].map(side => Math.round(side * PNG_SCALE)),
    );
  });
});

test('images have text, and the same bytes each time', async () => {
  const spec = countedAndReported(counted, REPORTED, 'params', 'title');
  const svg = await toSvg(spec);
  const png = await toPng(svg);
  expect(png.equals(await toPng(await toSvg(spec)))).toBe(true);
  expect(png.equals(await toPng(svg.replace(/<text.*?<\/text>/gs, '')))).toBe(false);
  expect((await toPdf(svg)).equals(await toPdf(svg))).toBe(true);
});

let compiled: ReturnType<Ajv['compile']> | undefined;

/** Vega-Lite's own schema: of version 6, which takes what version 5 does. */
function schema(): ReturnType<Ajv['compile']> {
  compiled ??= new Ajv({ strict: false, validateFormats: false }).compile(vegaLiteSchema);
  return compiled;
}

test('the Pareto front holds those that no other beats, equals among them', () => {
  const entries = [
    [3, 0.7],
    [1, 0.5],
    [2, 0.5],
    [2, 0.8],
    [1, 0.5],
    [9, 0.8],
    [4, 0.9],
  ];
  expect(
    paretoFront(
      entries,
      ([cost]) => cost,
      ([, gain]) => gain,
    ),
  ).toEqual([
    [1, 0.5],
    [1, 0.5],
    [2, 0.8],
    [4, 0.9],
  ]);
});
