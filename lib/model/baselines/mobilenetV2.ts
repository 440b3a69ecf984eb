import { z } from 'zod';
import { tf } from '../../tensor/tf';
import { positive } from '../../util/options';
import { architecture } from '../architecture';
import type { Tally } from '../count';
import { batchNorm, conv2d, depthwiseConv, globalAveragePool, linear } from '../layers';
import type { Layer, Scope } from '../module';

export const MOBILENET_V2_SETTINGS = z.strictObject({
  /** Multiplies all channel numbers, rounded to multiples of 8. */
  width: positive.default(1),
});

export type MobileNetV2Config = z.output<typeof MOBILENET_V2_SETTINGS>;

export const MOBILENET_V2 = MOBILENET_V2_SETTINGS.parse({});

/** Expansion, channels, repeats, stride of the first: Sandler et al., "MobileNetV2", CVPR 2018, table 2. */
export const MOBILENET_V2_STAGES = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

/**
 * MobileNetV2: [b, h, w, 3] → logits [b, classes]. Named and initialised as torchvision's, but without its dropout before
 * the classifier, so that all models here train with the same regularisers. 3,504,872 parameters at 1000 classes.
 */
export function mobileNetV2(scope: Scope, { width }: MobileNetV2Config, numClasses: number): Layer {
  let dim = round8(32 * width);
  const layers = [convNorm(scope.at('features.0'), 3, dim, 3, 2)];
  for (const [expansion, channels, repeats, firstStride] of MOBILENET_V2_STAGES) {
    for (let i = 0; i < repeats; i++) {
      const outDim = round8(channels * width);
      layers.push(
        invertedResidual(scope.at(`features.${layers.length}`), dim, outDim, expansion, i === 0 ? firstStride : 1),
      );
      dim = outDim;
    }
  }
  const lastDim = round8(1280 * Math.max(1, width));
  layers.push(convNorm(scope.at(`features.${layers.length}`), dim, lastDim, 1, 1));
  const classifier = linear(scope.at('classifier.1'), lastDim, numClasses, { weightInit: { normal: 0.01 } });
  return (x, ctx) => classifier(globalAveragePool(layers.reduce((y, layer) => layer(y, ctx), x)), ctx);
}

/** Expand (1×1), filter (depthwise 3×3), project (1×1, linear); the input is added where shapes allow. */
export function invertedResidual(
  scope: Scope,
  inDim: number,
  outDim: number,
  expansion: number,
  stride: number,
): Layer {
  const hidden = inDim * expansion;
  const steps: Layer[] = [];
  if (expansion !== 1) steps.push(convNorm(scope.at('conv.0'), inDim, hidden, 1, 1));
  steps.push(convNorm(scope.at(`conv.${steps.length}`), hidden, hidden, 3, stride, 'depthwise'));
  steps.push(
    conv2d(scope.at(`conv.${steps.length}`), hidden, outDim, 1, { bias: false, weightInit: heNormal(outDim, 1) }),
  );
  steps.push(batchNorm(scope.at(`conv.${steps.length}`), outDim));
  return scope.layer('InvertedResidual', (x, ctx) => {
    const y = steps.reduce((input, step) => step(input, ctx), x);
    return stride === 1 && inDim === outDim ? tf.add(x, y) : y;
  });
}

/** Convolution, batch norm, ReLU6. */
function convNorm(
  scope: Scope,
  inDim: number,
  outDim: number,
  kernel: number,
  stride: number,
  kind: 'full' | 'depthwise' = 'full',
): Layer {
  const options = { stride, bias: false, weightInit: heNormal(outDim, kernel) };
  const conv =
    kind === 'depthwise'
      ? depthwiseConv(scope.at('0'), outDim, kernel, options)
      : conv2d(scope.at('0'), inDim, outDim, kernel, options);
  const norm = batchNorm(scope.at('1'), outDim);
  return scope.layer('ConvBNReLU', (x, ctx) => tf.relu6(norm(conv(x, ctx), ctx)));
}

/** kaiming_normal(fan_out), where PyTorch counts all outputs of a depthwise convolution too. */
const heNormal = (outDim: number, kernel: number) => ({ normal: Math.sqrt(2 / (outDim * kernel * kernel)) });

/** To the nearest multiple of 8, but never below 90 % of what was asked. */
export function round8(channels: number): number {
  const rounded = Math.max(8, Math.floor((channels + 4) / 8) * 8);
  return rounded < 0.9 * channels ? rounded + 8 : rounded;
}

function countMobileNetV2(
  tally: Tally,
  { width }: MobileNetV2Config,
  numClasses: number,
  size: readonly [number, number],
): void {
  let sides = [...size];
  let dim = round8(32 * width);
  let index = 0;
  const halve = (stride: number) => {
    sides = sides.map(side => Math.ceil(side / stride));
    return product(sides);
  };
  const convNorm = (name: string, kernel: number, from: number, to: number, pixels: number) => {
    if (from === 0) tally.depthwise(`${name}.0`, to, kernel, pixels, false);
    else tally.conv(`${name}.0`, from, to, kernel, pixels, false);
    tally.batchNorm(`${name}.1`, to, pixels);
  };
  convNorm(`features.${index++}`, 3, 3, dim, halve(2));
  for (const [expansion, channels, repeats, firstStride] of MOBILENET_V2_STAGES) {
    for (let i = 0; i < repeats; i++, index++) {
      const at = `features.${index}.conv`;
      const hidden = dim * expansion;
      let step = 0;
      if (expansion > 1) convNorm(`${at}.${step++}`, 1, dim, hidden, product(sides));
      const pixels = halve(i === 0 ? firstStride : 1);
      convNorm(`${at}.${step++}`, 3, 0, hidden, pixels);
      dim = round8(channels * width);
      tally.conv(`${at}.${step++}`, hidden, dim, 1, pixels, false);
      tally.batchNorm(`${at}.${step}`, dim, pixels);
    }
  }
  const last = round8(1280 * Math.max(1, width));
  convNorm(`features.${index}`, 1, dim, last, product(sides));
  tally.linear('classifier.1', last, numClasses, 1);
}

const product = (values: readonly number[]): number => values.reduce((a, b) => a * b, 1);

export const MOBILENET_V2_MODELS = {
  'mobilenet-v2': architecture({
    settings: MOBILENET_V2_SETTINGS,
    published: MOBILENET_V2,
    classes: 1000,
    build: mobileNetV2,
    count: countMobileNetV2,
    reported: [{ model: 'MobileNetV2', top1: 0.72, params: 3.4e6, macs: 0.3e9, source: 'StarNet paper' }],
  }),
};
