import { describe, expect, test } from 'vitest';
import { hasGraphs } from '../lib/engine/binding';
import { compile } from '../lib/engine/compile/compile';
import { fusedOps, TALL } from '../lib/engine/fused';
import { article } from '../lib/model/baselines/article';
import { invertedResidual } from '../lib/model/baselines/mobilenetV2';
import { VIT_TINY, viT } from '../lib/model/baselines/vit';
import { type BlockConfig, globalSparseAttn, lglBlock, localAgg, patchEmbed, selfAttn } from '../lib/model/blocks';
import { ABLATIONS, VARIANTS } from '../lib/model/config';
import { edgeViT, stageBlocks } from '../lib/model/edgevit';
import { definePart, initialise, type Layer, type Params, type Scope } from '../lib/model/module';
import { type Ops, stockOps } from '../lib/tensor/ops';
import { type Tensor, type Tensor4D, tf } from '../lib/tensor/tf';
import { random } from '../lib/util/random';
import './allclose';

/**
 * Every block's gradient against finite differences, in training mode: with g the gradient by all parameters and the
 * input, the loss must change along a direction d at the rate g·d. The direction is g itself (so that rounding is small
 * against the change) plus as much of a random one (so that a part missing from g shows).
 *
 * Step 1e-3 and tolerance 1 %: outputs of float32 carry 1e-7 relative rounding, 1e-4 after division by the step, times the
 * square root of some hundreds of outputs; the third derivative adds h². A wrong term in a gradient shows as several percent.
 */
const STEP = 1e-3;
const TOLERANCE = 0.01;

const block = (overrides: Partial<BlockConfig> = {}): BlockConfig => {
  const [[{ dropPath: _, ...config }]] = stageBlocks(VARIANTS['edgevit-xxs']);
  return { ...config, dim: 8, heads: 2, sampleRate: 2, mlpRatio: 2, dropPath: 0, ...overrides };
};
const { heads: _heads, localAgg: _localAgg, ...pseudocode } = ABLATIONS.pseudocode;

const PICTURE = [3, 4, 8, 8]; // [b, h, w, c], not square

const PARTS: [name: string, inputShape: number[], build: (scope: Scope) => Layer][] = [
  ['patchEmbed', [2, 8, 4, 3], scope => patchEmbed(scope, 3, 8, 2, block())],
  ['patchEmbed, group norm', [2, 8, 4, 3], scope => patchEmbed(scope, 3, 8, 2, block({ norm: 'group', bias: false }))],
  ['localAgg', PICTURE, scope => localAgg(scope, block())],
  ['localAgg, pseudo-code', PICTURE, scope => localAgg(scope, block(pseudocode))],
  ['globalSparseAttn', PICTURE, scope => globalSparseAttn(scope, block())],
  ['globalSparseAttn, full', PICTURE, scope => globalSparseAttn(scope, block({ sampleRate: 1 }))],
  ['globalSparseAttn, mean', PICTURE, scope => globalSparseAttn(scope, block({ delegate: 'mean' }))],
  ['globalSparseAttn, max', PICTURE, scope => globalSparseAttn(scope, block({ delegate: 'max' }))],
  ['globalSparseAttn, nearest', PICTURE, scope => globalSparseAttn(scope, block({ localProp: 'nearest' }))],
  ['globalSparseAttn, without attention', PICTURE, scope => globalSparseAttn(scope, block({ delegatesAttend: false }))],
  ['globalSparseAttn, without LocalProp', PICTURE, scope => globalSparseAttn(scope, block({ localProp: 'none' }))],
  ['globalSparseAttn, bilinear', PICTURE, scope => globalSparseAttn(scope, block({ localProp: 'bilinear' }))],
  ['globalSparseAttn, pseudo-code', PICTURE, scope => globalSparseAttn(scope, block(pseudocode))],
  ['selfAttn', PICTURE, scope => selfAttn(scope, block())],
  ['selfAttn, no attention', PICTURE, scope => selfAttn(scope, block({ attention: false }))],
  ['lglBlock', PICTURE, scope => lglBlock(scope, block())],
  ['lglBlock, drop path', PICTURE, scope => lglBlock(scope, block({ dropPath: 0.4 }))],
  [
    'EdgeViT',
    [2, 32, 64, 3],
    scope =>
      edgeViT(scope, { ...VARIANTS['edgevit-xxs'], depths: [1, 1, 1, 1], dims: [4, 8, 8, 8], heads: [1, 2, 2, 2] }, 5),
  ],
  ['article', [2, 16, 32, 3], scope => article(scope, 5, [16, 32], false)],
  ['invertedResidual', PICTURE, scope => invertedResidual(scope, 8, 8, 3, 1)],
  ['invertedResidual, stride 2', PICTURE, scope => invertedResidual(scope, 8, 12, 3, 2)],
  ['ViT', [2, 16, 32, 3], scope => viT(scope, { ...VIT_TINY, patch: 8, dim: 8, depth: 2, heads: 2 }, 5, [16, 32])],
];

describe('gradients agree with finite differences', () => {
  test.each(PARTS)('%s', (_name, inputShape, build) =>
    tf.tidy(() => {
      const rng = random('gradients');
      const normal = (shape: number[], name: string, std = 1) =>
        initialise([{ name, shape, kind: 'plain', init: { normal: std } }], rng)[name];
      const part = definePart(build);
      // Larger than any initialisation, so that softmax and GELU work where they bend.
      const state: Params = {
        input: normal(inputShape, 'input'),
        ...Object.fromEntries(part.params.map(spec => [spec.name, normal(spec.shape, spec.name, 0.4)])),
      };
      const buffers = initialise(part.buffers, rng);
      const noise = tf.tensor2d(
        Array.from({ length: part.dropPathSites }, (_, site) =>
          Array.from({ length: inputShape[0] }, (_, i) => rng.fork(site, i).uniform()),
        ),
        [part.dropPathSites, inputShape[0]],
      );
      const output = ({ input, ...params }: Params) =>
        part.forward(input, params, buffers, { train: true, noise }).output;
      const target = normal(output(state).shape, 'target');

      const names = Object.keys(state);
      const grads = tf.grads((...values) => tf.sum(tf.mul(output(zip(names, values)), target)))(
        names.map(name => state[name]),
      );
      const random0 = names.map(name => normal(state[name].shape, `direction ${name}`));
      const direction = add(unit(grads), unit(random0));
      const moved = (step: number) =>
        output(
          zip(
            names,
            names.map((name, i) => tf.add(state[name], tf.mul(direction[i], step))),
          ),
        ).dataSync<'float32'>();
      const [after, before] = [moved(STEP), moved(-STEP)];
      // In float64 on the host: only the outputs themselves are rounded.
      const change = target.dataSync<'float32'>().reduce((sum, t, i) => sum + t * (after[i] - before[i]), 0);
      expect(change / (2 * STEP)).toBeAllclose(dot(grads, direction), TOLERANCE);
    }),
  );
});

const zip = (names: string[], values: Tensor[]): Params =>
  Object.fromEntries(names.map((name, i) => [name, values[i]]));
const dot = (a: Tensor[], b: Tensor[]): number =>
  a.reduce((sum, tensor, i) => sum + tf.sum(tf.mul(tensor, b[i])).dataSync()[0], 0);
const unit = (tensors: Tensor[]): Tensor[] => tensors.map(tensor => tf.div(tensor, Math.sqrt(dot(tensors, tensors))));
const add = (a: Tensor[], b: Tensor[]): Tensor[] => a.map((tensor, i) => tf.add(tensor, b[i]));

const rngOfBlocks = random('second derivatives');
const normalOf = (...shape: number[]): Tensor =>
  tf.tensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rngOfBlocks.normal()),
    shape,
  );

/** ∂/∂w of |∂/∂x Σ f(x, w)²|², the penalty of WGAN-GP (Gulrajani et al. 2017). */
const penaltyGradient = (f: (x: Tensor, w: Tensor) => Tensor) => (x: Tensor, w: Tensor) =>
  tf.grad((w: Tensor) => tf.sum(tf.square(tf.grad((x: Tensor) => tf.sum(tf.square(f(x, w))))(x))))(w);

// Inputs are small where the penalty is of their sixth power. tfjs has no second derivative of a depthwise convolution: a whole one
// whose kernel is diagonal stands in for it.
describe.skipIf(!hasGraphs())("second derivatives through the lab's kernels equal those of stock ops", () => {
  const [c, zeros] = [16, tf.zeros([16])];
  type Block = (ops: Ops, x: Tensor, w: Tensor) => Tensor;
  const dense = (kernel: Tensor) => tf.mul(kernel, tf.eye(c)) as Tensor4D;
  test.each<[string, Block, number[], number[], Block?]>([
    ['layerNorm', (ops, x, w) => ops.layerNorm(tf.mul(x, x), w, zeros, 1e-5), [4, c], [c]],
    ['batchNorm', (ops, x, w) => ops.batchNorm(tf.mul(x, w), w, zeros, 1e-2).y, [4, c], [c]],
    ['biasGelu', (ops, x, w) => ops.biasGelu(x, w), [4, c], [c]],
    ['addBias', (ops, x, w) => ops.addBias(tf.mul(x, x), w), [4, c], [c]],
    ['matmul of many rows', (ops, x, w) => ops.matmul(x, w, tf.ones([3])), [TALL, c], [c, 3]],
    ['matmul of few rows', (ops, x, w) => ops.matmul(x, w, tf.ones([3])), [8, c], [c, 3]],
    ['feedForward', (ops, x, w) => ops.feedForward(x, w, zeros, tf.ones([c, 3]), tf.zeros([3])), [1024, 4], [4, c]],
    ['attention', (ops, x, w) => ops.attention(tf.mul(x, w), { heads: 2 }), [1, 5, 24], [24]],
    ['localProp', (ops, x, w) => ops.localProp(x, w, zeros), [1, 2, 2, c], [2, 2, c]],
    ['addScaled', (ops, x, w) => ops.addScaled(x, tf.mul(x, w), tf.tensor1d([0, 1, 2, 1])), [4, c], [c]],
    [
      'depthwiseConv',
      (ops, x, w) => ops.depthwiseConv(x, w, zeros),
      [1, 4, 5, c],
      [3, 3, c, 1],
      (_ops, x, w) => tf.conv2d(x as Tensor4D, dense(w), 1, 'same'),
    ],
  ])('%s', (_name, block, xShape, wShape, reference = block) => {
    const [x, w] = [tf.mul(normalOf(...xShape), 0.5), normalOf(...wShape)];
    const expected = penaltyGradient((x, w) => reference(stockOps, x, w))(x, w);
    const penalty = penaltyGradient((x, w) => block(fusedOps, x, w));
    for (const gradient of [penalty, compile(penalty)]) expect(gradient(x, w)).toBeAllclose(expected, 1e-4); // sums of sixth powers
  });
});
