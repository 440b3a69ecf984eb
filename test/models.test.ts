import { describe, expect, test } from 'vitest';
import { globalSparseAttn } from '../lib/model/blocks';
import { ablate } from '../lib/model/config';
import { stageBlocks } from '../lib/model/edgevit';
import { batchNorm, dropPath } from '../lib/model/layers';
import { definePart } from '../lib/model/module';
import { createModel, parseSize } from '../lib/model/registry';
import { type Tensor, tf } from '../lib/tensor/tf';
import { UserError } from '../lib/util/errors';
import './allclose';
import { uniform } from './contract';

const SMALL = ['depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2'];

describe('refused with a UserError', () => {
  const xxs = { numClasses: 10, size: 64 };
  test.each<[string, () => unknown]>([
    ['an unknown model', () => createModel('edgevit-xl', xxs)],
    ['an unknown ablation', () => createModel('edgevit-xxs', { ...xxs, ablation: 'noHeads' })],
    ['an ablation of a baseline', () => createModel('mobilenet-v2', { ...xxs, ablation: 'noLocalAgg' })],
    ['an unknown setting', () => createModel('edgevit-xxs', { ...xxs, set: ['sampelRates=4,2,2,1'] })],
    // @ts-expect-error: a model's name tells its settings
    ['an unknown setting of an object', () => createModel('edgevit-xxs', { ...xxs, sampelRates: [4, 2, 2, 1] })],
    ['a setting without a value', () => createModel('edgevit-xxs', { ...xxs, set: ['delegate'] })],
    ['an unknown choice', () => createModel('edgevit-xxs', { ...xxs, set: ['delegate=median'] })],
    ['too few stages', () => createModel('edgevit-xxs', { ...xxs, set: ['depths=1,2'] })],
    ['no number', () => createModel('edgevit-xxs', { ...xxs, set: ['mlpRatio=four'] })],
    ['a drop rate of 1', () => createModel('edgevit-xxs', { ...xxs, set: ['dropPath=1'] })],
    ['heads that do not divide', () => createModel('edgevit-xxs', { ...xxs, set: ['heads=5,2,4,8'] })],
    ['a side that does not fit the strides', () => createModel('edgevit-xxs', { ...xxs, size: [64, 100] })],
    [
      'a side that does not fit the sample rates',
      () => createModel('edgevit-xxs', { ...xxs, size: 96, set: ['sampleRates=4,2,2,2'] }),
    ],
    ['a size that is none', () => createModel('edgevit-xxs', { ...xxs, size: 0 })],
    ['a size that no memory holds', () => createModel('edgevit-xxs', { ...xxs, size: 2 ** 20 })],
    ['a size of three sides', () => parseSize('64x64x3')],
    ['no classes', () => createModel('edgevit-xxs', { ...xxs, numClasses: 0 })],
    [
      "the article's model as printed at another size",
      () => createModel('article-as-printed', { numClasses: 103, size: 96 }),
    ],
    ['a ViT whose patches do not fit', () => createModel('vit-tiny', { numClasses: 10, size: 100 })],
  ])('%s', (_what, create) => expect(create).toThrow(UserError));
});

test('settings apply, and a resolved configuration builds the same model again', () => {
  const settings = { numClasses: 10, size: [64, 128] as const };
  const model = createModel('edgevit-xs', {
    ...settings,
    ablation: 'pseudocode',
    set: ['sampleRates=2,2,2,1', 'delegate=mean', 'localAgg=true,false,true,false'],
  });
  expect(model.config).toMatchObject({
    depths: [1, 1, 2, 2],
    sampleRates: [2, 2, 2, 1],
    delegate: 'mean',
    localAgg: [true, false, true, false],
  });
  const again = createModel('edgevit-xs', { ...settings, ...JSON.parse(JSON.stringify(model.config)) });
  expect(again.config).toEqual(model.config);
  expect(again.params).toEqual(model.params);
});

test('an ablation changes what it names and nothing else', () => {
  const official = ablate('edgevit-s');
  expect(ablate('edgevit-s', 'delegateMax')).toEqual({ ...official, delegate: 'max' });
  expect(ablate('edgevit-s', 'fullAttention')).toEqual({ ...official, sampleRates: [1, 1, 1, 1] });
});

describe('the branch of attention, with a part taken away', () => {
  const [side, rate] = [8, 4];
  /** [side][side] sums over channels of absolute values: where the branch's result changes with the pixel at `changed`, or where it is not zero. */
  const reach = (ablation: string, changed?: [number, number]) =>
    tf.tidy(() => {
      const config = { ...stageBlocks(ablate('edgevit-xxs', ablation))[0][0], dim: 6, heads: 2, sampleRate: rate };
      const branch = definePart(scope => globalSparseAttn(scope, config));
      const params = Object.fromEntries(branch.params.map(({ name, shape }) => [name, uniform(shape, name)]));
      const output = (x: Tensor) => branch.forward(x, params, {}, { train: false }).output;
      const picture = tf.buffer(
        [1, side, side, 6],
        'float32',
        uniform([1, side, side, 6], 'picture').dataSync<'float32'>(),
      );
      const before = output(picture.toTensor());
      if (changed) picture.set(5, 0, ...changed, 3);
      const values = changed ? tf.sub(output(picture.toTensor()), before) : before;
      return (tf.sum(tf.abs(values), 3).arraySync() as number[][][])[0];
    });
  const pixels = (map: number[][]): string[] =>
    map.flatMap((row, y) => row.flatMap((value, x) => (value > 1e-6 ? [`${y},${x}`] : [])));

  test('noLocalProp leaves zero to all but delegates', () => {
    expect(pixels(reach('noLocalProp'))).toEqual(['0,0', '0,4', '4,0', '4,4']);
  });

  test('noAttention keeps what a delegate saw within its window', () => {
    const window = [4, 5, 6, 7].flatMap(y => [0, 1, 2, 3].map(x => `${y},${x}`));
    expect(pixels(reach('noAttention', [4, 0]))).toEqual(window);
    expect(pixels(reach('noAttention', [5, 0]))).toEqual([]); // no delegate
    expect(pixels(reach('delegateMean', [5, 0]))).toHaveLength(side * side);
  });
});

test('an image of another size, and a second image for the model as printed, are refused', () => {
  tf.tidy(() => {
    const xxs = createModel('edgevit-xxs', { numClasses: 2, size: 32, set: SMALL });
    const { params, buffers } = xxs.init(0);
    expect(() => xxs.forward(tf.zeros([1, 64, 64, 3]), params, buffers, { train: false })).toThrow(UserError);
    const printed = createModel('article-as-printed', { numClasses: 2, size: 224 });
    const zeros = Object.fromEntries(
      [...printed.params, ...printed.buffers].map(spec => [spec.name, tf.zeros(spec.shape)]),
    );
    expect(() => printed.forward(tf.zeros([2, 224, 224, 3]), zeros, zeros, { train: false })).toThrow(UserError);
  });
});

describe('initialisation', () => {
  test('equal seeds give equal bytes, and ablations share what they have in common', () =>
    tf.tidy(() => {
      const at = (seed: number, ablation?: string) =>
        createModel('edgevit-xxs', { numClasses: 4, size: 32, ablation, set: SMALL }).init(seed).params;
      const [first, same, other, ablated] = [at(1), at(1), at(2), at(1, 'localPropNearest')];
      const bytes = (tensor: Tensor) => Buffer.from(tensor.dataSync().buffer);
      for (const name of Object.keys(first)) expect(bytes(same[name]).equals(bytes(first[name])), name).toBe(true);
      for (const name of Object.keys(ablated)) expect(bytes(ablated[name]).equals(bytes(first[name])), name).toBe(true);
      expect(bytes(other['head.weight']).equals(bytes(first['head.weight']))).toBe(false);
    }));

  test('linear layers are normal of 0.02 with zero bias, convolutions uniform in ±1/√fanIn, norms 1 and 0', () =>
    tf.tidy(() => {
      const { params, buffers } = createModel('edgevit-xxs', { numClasses: 1000, size: 32 }).init(0);
      const std = (tensor: Tensor) => tf.moments(tensor).variance.sqrt();
      const largest = (tensor: Tensor) => tf.max(tf.abs(tensor)).dataSync()[0];
      expect(std(params['head.weight'])).toBeAllclose(0.02, 0.01); // a sample of 288,000: ±0.13 %
      expect(largest(params['head.bias'])).toBe(0);
      for (const [name, fanIn] of [
        ['patch_embed2.proj', 36 * 4],
        ['blocks3.0.LocalAgg.conv1', 144],
        ['blocks3.0.LocalAgg.attn', 25],
        ['blocks3.0.SelfAttn.attn.LocalProp', 4],
      ] as const) {
        expect(largest(params[`${name}.weight`])).toBeLessThanOrEqual(Math.fround(1 / Math.sqrt(fanIn)));
        expect(std(params[`${name}.weight`])).toBeAllclose(1 / Math.sqrt(3 * fanIn), 0.1); // samples of 576 and more
        expect(largest(params[`${name}.bias`])).toBeGreaterThan(0);
      }
      expect(params['blocks1.0.SelfAttn.norm1.weight']).toBeAllclose(new Float32Array(36).fill(1));
      expect(largest(buffers['norm.running_mean'])).toBe(0);
      expect(buffers['norm.running_var']).toBeAllclose(new Float32Array(288).fill(1));
    }));
});

describe('drop path', () => {
  test('drops whole images and scales up those that stay', () =>
    tf.tidy(() => {
      const part = definePart(scope => {
        const residual = dropPath(scope, 0.25);
        return (branch, ctx) => residual(tf.zerosLike(branch), branch, ctx);
      });
      const x = tf.ones([4, 2, 2, 3]);
      const noise = tf.tensor2d([[0.1, 0.24, 0.26, 0.9]]);
      const dropped = part.forward(x, {}, {}, { train: true, noise }).output;
      expect(tf.mean(dropped, [1, 2, 3])).toBeAllclose([0, 0, 4 / 3, 4 / 3]);
      expect(part.forward(x, {}, {}, { train: false }).output).toBeAllclose(x);
    }));

  test('takes a row of noise for each residual branch whose rate is above 0', () => {
    const sites = (set: string[]) => createModel('edgevit-xxs', { numClasses: 2, size: 32, set }).dropPathSites;
    expect(sites(['dropPath=0'])).toBe(0);
    expect(sites(['dropPath=0.1'])).toBe(20); // blocks 2–5 have two pairs of branches, the last two blocks one
  });
});

describe('batch norm', () => {
  test.each([
    ['unbiased', 4 / 3],
    ['biased', 1],
  ] as const)('normalises by the biased variance and keeps the %s one', (runningVariance, factor) =>
    tf.tidy(() => {
      const part = definePart(scope => batchNorm(scope, 1, { eps: 0, runningVariance }));
      const state = { weight: tf.ones([1]), bias: tf.zeros([1]) };
      const statistics = { running_mean: tf.zeros([1]), running_var: tf.ones([1]) };
      const x = tf.tensor4d([1, 3, 5, 7], [2, 2, 1, 1]); // mean 4, variance 5
      const { output, buffers } = part.forward(x, state, statistics, { train: true });
      expect(output).toBeAllclose([-3, -1, 1, 3].map(value => value / Math.sqrt(5)));
      expect(buffers.running_mean).toBeAllclose([0.4]);
      expect(buffers.running_var).toBeAllclose([0.9 + 0.1 * 5 * factor]);
    }),
  );

  test('refuses to train on one value per channel', () =>
    tf.tidy(() => {
      const model = createModel('edgevit-xxs', { numClasses: 2, size: 32, set: ['dropPath=0'] });
      const { params, buffers } = model.init(0);
      expect(() => model.forward(uniform([1, 32, 32, 3], 'picture'), params, buffers, { train: true })).toThrow(
        UserError,
      );
    }));
});

test("a model's name tells the types of its settings and its configuration", () => {
  const edgeViT = createModel('edgevit-xxs', { numClasses: 2, size: 64, sampleRates: [2, 2, 2, 1] });
  const sampleRates: readonly number[] = edgeViT.config.sampleRates;
  expect(sampleRates).toEqual([2, 2, 2, 1]);
  const width: number = createModel('mobilenet-v2', { numClasses: 2, size: 64, width: 0.5 }).config.width;
  expect(width).toBe(0.5);
  // @ts-expect-error: MobileNetV2 has no heads
  expect(() => createModel('mobilenet-v2', { numClasses: 2, size: 64, heads: 2 })).toThrow(UserError);
  const name: string = 'vit-tiny';
  const { config } = createModel(name, { numClasses: 2, size: 32, depth: 1 }); // known at run time only
  expect(config).toMatchObject({ depth: 1 });
});
