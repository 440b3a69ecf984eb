import { expect } from 'vitest';
import { compile } from '../lib/engine/compile/compile';
import { largest } from '../lib/measure/compare';
import type { Model, Params } from '../lib/model/module';
import { type Scalar, type Tensor, tf } from '../lib/tensor/tf';
import { crossEntropy } from '../lib/train/loss';
import { random } from '../lib/util/random';
import './allclose';

/** What every model owes: shapes, finite values, a gradient for every parameter, nothing leaked, images independent in evaluation, one result eager or compiled. */
export function checkContract(
  model: Model,
  { batch = 2, gradients = 1e-4 }: { batch?: number; gradients?: number } = {},
): void {
  const tensors = tf.memory().numTensors;
  const { params, buffers } = model.init('contract');
  const images = uniform([batch, ...model.inputSize, 3], 'images');
  const noise = uniform([model.dropPathSites, batch], 'noise');
  const targets = tf.tidy(() => tf.softmax(uniform([batch, model.numClasses], 'targets')));

  const evaluate = (x: Tensor) => tf.tidy(() => model.forward(x, params, buffers, { train: false }).logits);
  const logits = evaluate(images);
  expect(logits.shape).toEqual([batch, model.numClasses]);
  expect(logits.dataSync().every(Number.isFinite)).toBe(true);
  for (let i = 0; i < batch; i++) {
    const [alone, together] = tf.tidy(() => [evaluate(tf.slice(images, i, 1)), tf.slice(logits, i, 1)]);
    expect(alone).toBeAllclose(together, 2e-5); // other matrix sizes, other order of summation
    tf.dispose([alone, together]);
  }

  const differentiate = (x: Tensor, weights: Params) =>
    tf.tidy(() => {
      let updated!: Params;
      const names = model.params.map(spec => spec.name);
      const { value, grads } = tf.valueAndGrads((...values) => {
        const output = model.forward(x, Object.fromEntries(names.map((name, i) => [name, values[i]])), buffers, {
          train: true,
          noise,
        });
        updated = Object.fromEntries(Object.entries(output.buffers).map(([name, tensor]) => [name, tf.keep(tensor)]));
        return crossEntropy(output.logits, targets) as Scalar;
      })(names.map(name => weights[name]));
      return {
        loss: value as Tensor,
        grads: Object.fromEntries(names.map((name, i) => [name, grads[i]])),
        buffers: updated,
      };
    });
  const eager = differentiate(images, params);
  const grads = host(eager.grads);
  for (const { name, shape } of model.params) {
    expect(eager.grads[name].shape, name).toEqual(shape);
    expect(grads[name].every(Number.isFinite), name).toBe(true);
    expect(largest(grads[name]), name).toBeGreaterThan(0);
  }
  expect(Object.keys(eager.buffers)).toEqual(model.buffers.map(spec => spec.name));
  for (const [name, values] of Object.entries(host(eager.buffers)))
    expect(values.every(Number.isFinite), name).toBe(true);

  const step = compile(differentiate, { name: 'contract' });
  const compiled = step(images, params);
  expect(compiled.loss).toBeAllclose(eager.loss);
  // Sums over images and pixels in another order.
  expectClose(host(compiled.grads), grads, gradients);
  expectClose(host(compiled.buffers), host(eager.buffers), 1e-5);
  step.dispose();

  tf.dispose([params, buffers, images, noise, targets, logits]);
  tf.dispose([eager, compiled] as never);
  expect(tf.memory().numTensors).toBe(tensors);
}

/** Relative to the largest value of all tensors, because some are zero in theory. */
function expectClose(
  actual: Record<string, Float32Array>,
  expected: Record<string, Float32Array>,
  tolerance: number,
): void {
  const scale = Math.max(0, ...Object.values(expected).map(largest));
  for (const [name, values] of Object.entries(expected)) {
    let difference = 0;
    for (let i = 0; i < values.length; i++) difference = Math.max(difference, Math.abs(values[i] - actual[name][i])); // NaN stays NaN
    expect(difference, name).toBeLessThanOrEqual(tolerance * scale);
  }
}

/** Reproducible values in [0, 1). */
export function uniform(shape: number[], name: string): Tensor {
  const rng = random('contract').fork(name);
  return tf.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => rng.uniform()),
    shape,
  );
}

const host = (tensors: Params): Record<string, Float32Array> =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.dataSync<'float32'>()]));
