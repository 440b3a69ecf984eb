import { describe, expect, test } from 'vitest';
import type { ParamSpec } from '../lib/model/module';
import { createModel } from '../lib/model/registry';
import { type Tensor, tf } from '../lib/tensor/tf';
import { countCorrect, crossEntropy } from '../lib/train/loss';
import {
  clipByGlobalNorm,
  createOptimizer,
  isDecayed,
  movingAverage,
  type OptimizerSettings,
} from '../lib/train/optimizers';
import { learningRate } from '../lib/train/schedule';
import { random } from '../lib/util/random';
import './allclose';

const SETTINGS: OptimizerSettings = {
  optimizer: 'adam',
  weightDecay: 0.1,
  momentum: 0.9,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
};
const SPECS: ParamSpec[] = [
  { name: 'weight', shape: [3, 2], kind: 'linear', init: { constant: 0 } },
  { name: 'bias', shape: [2], kind: 'plain', init: { constant: 0 } },
];

/** PyTorch's documentation, line by line, in float64. */
const REFERENCES: Record<
  string,
  (p: number, g: number, memory: { m: number; v: number }, t: number, lr: number, decay: number) => number
> = {
  sgd(p, g, memory, _t, lr, decay) {
    memory.v = 0.9 * memory.v + (g + decay * p);
    return p - lr * memory.v;
  },
  adam: (p, g, memory, t, lr, decay) => adamStep(p, g + decay * p, memory, t, lr),
  adamw: (p, g, memory, t, lr, decay) => adamStep(p - lr * decay * p, g, memory, t, lr),
};

function adamStep(p: number, g: number, memory: { m: number; v: number }, t: number, lr: number): number {
  memory.m = 0.9 * memory.m + (1 - 0.9) * g;
  memory.v = 0.999 * memory.v + (1 - 0.999) * g * g;
  return p - (lr * (memory.m / (1 - 0.9 ** t))) / (Math.sqrt(memory.v / (1 - 0.999 ** t)) + 1e-8);
}

describe.each(['sgd', 'adam', 'adamw'] as const)('%s', optimizer => {
  test("follows PyTorch's rule, decaying weights and not biases", () => {
    const { slots, scalars, update } = createOptimizer({ ...SETTINGS, optimizer }, SPECS);
    const rng = random(optimizer);
    const expected = SPECS.map(({ shape }) =>
      Array.from({ length: shape.reduce((a, b) => a * b) }, () => rng.normal()),
    );
    const memory = expected.map(values => values.map(() => ({ m: 0, v: 0 })));
    let params = Object.fromEntries(SPECS.map(({ name, shape }, i) => [name, tf.tensor(expected[i], shape)]));
    let state = Object.fromEntries(
      slots.map(slot => [slot, Object.fromEntries(SPECS.map(({ name, shape }) => [name, tf.zeros(shape) as Tensor]))]),
    );
    for (let t = 1; t <= 20; t++) {
      const lr = 0.01 * t;
      const grads = expected.map(values => values.map(() => rng.normal()));
      const named = Object.fromEntries(SPECS.map(({ name, shape }, i) => [name, tf.tensor(grads[i], shape)]));
      const tensors = Object.fromEntries(
        Object.entries(scalars(t, lr)).map(([name, value]) => [name, tf.scalar(value)]),
      );
      ({ params, slots: state } = update(params, named, state, tensors));
      SPECS.forEach(({ name }, i) => {
        expected[i] = expected[i].map((p, j) =>
          REFERENCES[optimizer](p, grads[i][j], memory[i][j], t, lr, name === 'weight' ? 0.1 : 0),
        );
        expect(params[name].dataSync()).toBeAllclose(expected[i]);
      });
    }
  });
});

describe('weight decay', () => {
  const decayed = (name: string, model: string, size = 64): boolean =>
    isDecayed(createModel(model, { numClasses: 2, size }).params.find(spec => spec.name === name)!);

  test('takes matrices and kernels, the depthwise position embeddings among them', () => {
    for (const name of [
      'head.weight',
      'blocks1.0.LocalAgg.pos_embed.weight',
      'blocks1.0.SelfAttn.attn.LocalProp.weight',
    ])
      expect(decayed(name, 'edgevit-xxs')).toBe(true);
  });

  test("leaves biases, norms and ViT's tokens", () => {
    for (const name of ['head.bias', 'norm.weight', 'patch_embed1.norm.weight', 'blocks1.0.LocalAgg.pos_embed.bias'])
      expect(decayed(name, 'edgevit-xxs')).toBe(false);
    for (const name of ['cls_token', 'pos_embed']) expect(decayed(name, 'vit-tiny')).toBe(false);
  });
});

test('gradients are clipped by their joint norm', () => {
  const norm = (grads: Record<string, Tensor>) =>
    Math.hypot(...Object.values(grads).flatMap(grad => [...grad.dataSync()]));
  const grads = { a: tf.tensor1d([3, 0]), b: tf.tensor2d([[4], [12]]) };
  const clipped = clipByGlobalNorm(grads, 1);
  expect(norm(clipped)).toBeAllclose(1);
  expect(clipped.b.dataSync()).toBeAllclose([4 / 13, 12 / 13]);
  expect(clipByGlobalNorm(grads, 20).b.dataSync()).toEqual(grads.b.dataSync());
});

test('the moving average moves by 1 − decay', () => {
  const average = movingAverage({ a: tf.tensor1d([1, 2]) }, { a: tf.tensor1d([2, 4]), other: tf.scalar(1) }, 0.75);
  expect(average.a.dataSync()).toBeAllclose([1.25, 2.5]);
  expect(Object.keys(average)).toEqual(['a']);
});

describe('the learning rate', () => {
  const settings = { lr: 1, schedule: 'cosine' as const, minLr: 0.1, warmupEpochs: 2, epochs: 10 };
  const at = (step: number) => learningRate(step, 5, settings);

  test('rises in a line, then falls by half a cosine to its least', () => {
    expect([0, 4, 9].map(at)).toBeAllclose([0.1, 0.5, 1]);
    expect(at(10)).toBe(1);
    expect(at(30)).toBeAllclose(0.55); // half way
    expect(at(50)).toBeAllclose(0.1);
    for (let step = 11; step < 50; step++) expect(at(step)).toBeLessThan(at(step - 1));
  });

  test('can stay', () => {
    expect(learningRate(40, 5, { ...settings, schedule: 'constant' })).toBe(1);
  });
});

describe('the loss', () => {
  const logits = [
    [2, -1, 0.5],
    [0, 3, -2],
  ];
  const targets = [
    [1, 0, 0],
    [0.3, 0, 0.7],
  ];
  const reference = (smoothing: number) => {
    const rows = logits.map((row, i) => {
      const sum = Math.log(row.reduce((total, z) => total + Math.exp(z), 0));
      return row.reduce((loss, z, j) => loss - ((1 - smoothing) * targets[i][j] + smoothing / 3) * (z - sum), 0);
    });
    return (rows[0] + rows[1]) / 2;
  };

  test.each([0, 0.1])('is the mean cross-entropy of mixed targets, smoothed by %d', smoothing => {
    expect(crossEntropy(tf.tensor2d(logits), tf.tensor2d(targets), smoothing).dataSync()[0]).toBeAllclose(
      reference(smoothing),
    );
  });

  test('its gradient is (softmax − targets) / batch', () => {
    const gradient = tf.grad(z => crossEntropy(z, tf.tensor2d(targets)))(tf.tensor2d(logits));
    expect(gradient).toBeAllclose(tf.div(tf.sub(tf.softmax(tf.tensor2d(logits)), tf.tensor2d(targets)), 2));
  });

  test('what is right is counted beside it', () => {
    expect(countCorrect(tf.tensor2d(logits), tf.tensor2d(targets)).dataSync()[0]).toBe(1);
  });
});
