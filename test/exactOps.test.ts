import { describe, expect, test } from 'vitest';
import { hasGraphs, nodeBackend } from '../lib/engine/binding';
import type { Tree } from '../lib/engine/compile/compile';
import { reachable } from '../lib/engine/compile/ir';
import { ownOps } from '../lib/engine/compile/passes/ownOps';
import { simplify } from '../lib/engine/compile/passes/simplify';
import { trace } from '../lib/engine/compile/trace';
import { ABLATIONS } from '../lib/model/config';
import type { ParamSpec, Params } from '../lib/model/module';
import { createModel } from '../lib/model/registry';
import { type Tensor, tf } from '../lib/tensor/tf';
import { evalStep, type StepSettings, trainStep } from '../lib/train/step';

/**
 * TensorFlow's ops that compute the same bits on every processor: they copy, compare, or compute each value by one IEEE operation (a sum
 * of several tensors in their order). Pools of maxima have windows that do not overlap here, so that gradients are copied.
 */
const EXACT = new Set(
  `Placeholder Const Identity Reshape Transpose Slice StridedSlice Pack Unpack ConcatV2 Split SplitV Tile PadV2 Pad ExpandDims
   Squeeze GatherV2 OneHot Fill ZerosLike OnesLike BroadcastTo Range Reverse ReverseV2 MirrorPad
   Add AddV2 AddN Sub Mul RealDiv Div Neg Abs Sign Square Maximum Minimum Max Min ArgMax ArgMin Floor Ceil Round Cast
   Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalNot Select SelectV2 Relu Relu6 Relu6Grad IsNan BiasAdd MaxPool MaxPoolGrad`.split(
    /\s+/,
  ),
);

const SETTINGS: StepSettings = {
  optimizer: 'adamw',
  weightDecay: 0.05,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  momentum: 0.9,
  labelSmoothing: 0.1,
  clip: 1,
  ema: 0.9,
};

/** The ops of the graphs that training and evaluation run which are neither exact nor ours. */
function strangers(
  name: string,
  options: { size: number; ablation?: string; set?: string[] },
  settings: Partial<StepSettings> = {},
): string[] {
  const all = { ...SETTINGS, ...settings };
  const model = createModel(name, { numClasses: 5, ...options });
  // Values decide no op, and millions of random ones take a second.
  const weights = (specs: readonly ParamSpec[]): Params =>
    Object.fromEntries(
      specs.map(({ name, shape }) => [name, tf.reshape(tf.linspace(0.01, 0.02, tf.util.sizeFromShape(shape)), shape)]),
    );
  const [params, buffers] = [weights(model.params), weights(model.buffers)];
  const batch = 2;
  const images = tf.zeros([batch, ...model.inputSize, 3]);
  const targets = tf.zeros([batch, 5]);
  const noise = tf.zeros([model.dropPathSites, batch]);
  const training = trainStep(model, all);
  const draw = training.draw(1, 1e-3, noise);
  const state = training.initialState(params, buffers);
  const opsOf = (fn: (...args: never[]) => unknown, args: unknown[], capture: 'input' | 'constant') => {
    const { binding } = nodeBackend();
    const graph = ownOps(binding, simplify(binding, trace(fn as never, args as Tree[], { capture })));
    return reachable(graph.outputs).map(node => node.op);
  };
  const ops = tf.tidy(() => [
    ...opsOf(training.run as never, [params, state, { images, targets }, draw], 'input'),
    ...opsOf(evalStep(model), [params, buffers, images], 'input'),
    ...opsOf((images: Tensor) => evalStep(model)(params, buffers, images), [images], 'constant'),
  ]);
  tf.disposeVariables();
  return [...new Set(ops)].filter(op => !op.startsWith('Lab') && !EXACT.has(op)).sort();
}

const SMALL = { size: 64, set: ['depths=1,1,1,1', 'dropPath=0.1'] };

// Augmentation is the host's: `host data` of test/golden.json.
describe.skipIf(!hasGraphs())('graphs of training and evaluation hold exact ops and kernels of ours alone', () => {
  test.each(['edgevit-xxs', 'edgevit-xs', 'edgevit-s'])('%s', name => {
    expect(strangers(name, SMALL)).toEqual([]);
  });

  test.each(Object.keys(ABLATIONS))('%s', ablation => {
    expect(strangers('edgevit-xxs', { ...SMALL, ablation })).toEqual([]);
  });

  test.each([
    { optimizer: 'sgd' },
    { optimizer: 'adam', clip: 0, ema: 0 },
    { labelSmoothing: 0 },
    { freeze: 'patch_embed*', layerDecay: 0.8, lr: 1e-3, lrHead: 1e-2 },
  ] as Partial<StepSettings>[])('%j', settings => {
    expect(strangers('edgevit-xxs', SMALL, settings)).toEqual([]);
  });

  test.each(['article', 'vit-tiny', 'mobilenet-v2'])('%s', name => {
    expect(strangers(name, { size: 32 })).toEqual([]);
  });

  test.each([
    ['edgevit-xxs', { ...SMALL, set: [...SMALL.set, 'dims=8,16,16,16', 'heads=1,2,2,2', 'localAggKernel=7'] }],
    ['mobilenet-v2', { size: 50, set: ['width=0.25'] }],
  ])('%s of few channels, other kernels and odd sizes', (name, options) => {
    expect(strangers(name, options)).toEqual([]);
  });
});
