import { describe, expect, it } from 'vitest';
import { hasGraphs } from '../lib/engine/binding';
import { fusedOps } from '../lib/engine/fused';
import { type Ops, stockOps } from '../lib/tensor/ops';
import { type Tensor, tf } from '../lib/tensor/tf';
import { random } from '../lib/util/random';
import './allclose';

const rng = random('fused');
function normal(shape: number[], mean = 0): Tensor {
  return tf.tensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => mean + rng.normal()),
    shape,
  );
}

/** Value and gradients of every input, for a random dy: by the kernel and by the composition of stock ops. */
function both(fn: (ops: Ops) => (...inputs: Tensor[]) => Tensor, inputs: Tensor[]) {
  const dy = normal(fn(fusedOps)(...inputs).shape);
  const evaluate = (ops: Ops) => {
    const y = fn(ops)(...inputs);
    return [y, ...tf.grads((...args: Tensor[]) => fn(ops)(...args))(inputs, dy)];
  };
  return { kernel: evaluate(fusedOps), stock: evaluate(stockOps) };
}

function agree(fn: (ops: Ops) => (...inputs: Tensor[]) => Tensor, inputs: Tensor[], tolerance?: number) {
  const { kernel, stock } = both(fn, inputs);
  expect(kernel).toHaveLength(inputs.length + 1);
  kernel.forEach((tensor, i) => expect(tensor).toBeAllclose(stock[i]!, tolerance));
}

// Odd channel counts and more rows than blocks reach the vectors' tails and the blocks' borders.
describe.skipIf(!hasGraphs())('fused kernels equal the stock ops they replace, with all gradients', () => {
  it.each([[[2, 5, 7, 36]], [[3, 1, 1, 5]], [[40, 144]]])('layerNorm %j', shape => {
    const c = shape[shape.length - 1]!;
    agree(ops => (x, w, b) => ops.layerNorm(x, w, b, 1e-5), [normal(shape, 3), normal([c]), normal([c])]);
  });

  it.each([[[2, 5, 7, 36]], [[3, 1, 1, 5]], [[2, 40, 40, 20]]])('batchNorm %j', shape => {
    const c = shape[3]!;
    agree(ops => (x, w, b) => ops.batchNorm(x, w, b, 1e-5).y, [normal(shape, 3), normal([c]), normal([c])]);
    const x = normal(shape, 50); // a mean far from zero, where a naive sum of squares would cancel
    const kernel = fusedOps.batchNorm(x, tf.ones([c]), tf.zeros([c]), 1e-5);
    const stock = stockOps.batchNorm(x, tf.ones([c]), tf.zeros([c]), 1e-5);
    expect(kernel.mean).toBeAllclose(stock.mean);
    expect(kernel.variance).toBeAllclose(stock.variance);
  });

  it.each([[[2, 3, 3, 36]], [[70, 7]]])('biasGelu and addBias %j', shape => {
    const inputs = [normal(shape), normal([shape[shape.length - 1]!])];
    agree(ops => ops.biasGelu, inputs);
    agree(ops => ops.addBias, inputs);
  });

  it('biasGelu far from zero', () => {
    agree(ops => ops.biasGelu, [tf.tensor2d([[-100, -20, -6, -3, 0, 3, 6, 20, 100]]), tf.zeros([9])]);
  });

  // Rows around the sizes of chunks and blocks; columns that fill vectors and panels and that do not, on either side.
  it.each([
    [128, 48, 36],
    [130, 7, 100],
    [257, 100, 7],
    [900, 36, 49],
    [1600, 144, 50],
  ])('matmul of %i × %i by %i columns', (m, k, n) => {
    const inputs = [normal([m, k]), normal([k, n]), normal([n])];
    agree(ops => ops.matmul, inputs);
    agree(ops => (x, weight) => ops.matmul(x, weight), inputs.slice(0, 2));
  });

  // Hidden values computed again, and kept; the last with a width that fills no panel.
  it.each([
    [2048, 36, 144, 36],
    [2100, 7, 48, 5],
    [2500, 64, 256, 64],
    [2049, 70, 100, 40],
  ])('feedForward of %i × %i, %i hidden, to %i', (m, k, hidden, n) => {
    agree(
      ops => ops.feedForward,
      [normal([m, k]), normal([k, hidden]), normal([hidden]), normal([hidden, n]), normal([n])],
      1e-4,
    );
  });

  it('addScaled', () => {
    const scale = tf.tensor1d([0, 1.25, 2]);
    agree(ops => (x, branch) => ops.addScaled(x, branch, scale), [normal([3, 4, 4, 5]), normal([3, 4, 4, 5])]);
  });

  it.each([
    [3, [2, 6, 9, 36]],
    [5, [20, 7, 4, 17]],
    [5, [1, 1, 1, 48]],
    [5, [1, 3, 2, 16]],
    [3, [1, 4, 4, 8]],
    [7, [1, 8, 8, 4]],
  ] as const)('depthwiseConv %i×: %j', (k, shape) => {
    const inputs = [normal([...shape]), normal([k, k, shape[3], 1]), normal([shape[3]])];
    for (const stride of [1, 2, 3])
      agree(ops => (x, kernel, bias) => ops.depthwiseConv(x, kernel, bias, stride), inputs);
    agree(ops => (x, kernel) => ops.depthwiseConv(x, kernel), inputs.slice(0, 2));
  });

  it.each([
    [3, 2, 1, [2, 9, 8, 3]],
    [3, 1, 0, [1, 12, 13, 5]],
    [5, 3, 2, [2, 7, 7, 4]],
    [2, 3, 0, [1, 6, 11, 1]],
  ] as const)('conv %i× at stride %i, padding %i: %j', (k, stride, padding, shape) => {
    const inputs = [normal([...shape]), normal([k, k, shape[3], 6])];
    agree(ops => (x, kernel) => ops.conv(x, kernel, stride, padding), inputs);
  });

  it.each([
    [2, [2, 3, 4, 36]],
    [4, [3, 2, 2, 5]],
  ] as const)('localProp ×%i: %j', (r, shape) => {
    agree(ops => ops.localProp, [normal([...shape]), normal([r, r, shape[3]]), normal([shape[3]])]);
  });

  it.each([
    [2, 9, 3, 12],
    [1, 150, 2, 36],
    [3, 1, 1, 5],
  ])('attention of %i × %i tokens, %i heads of %i', (b, n, heads, d) => {
    agree(ops => qkv => ops.attention(qkv, { heads }), [normal([b, n, 3 * heads * d])]);
  });

  it('adam', () => {
    const slots = { param: normal([9, 5]), mean: normal([9, 5]), square: tf.abs(normal([9, 5])) };
    const scalars = { step: tf.scalar(0.01), epsilon: tf.scalar(1e-4), keep: tf.scalar(0.99) };
    const grad = normal([9, 5]);
    const update = (ops: Ops) => ops.adam(slots, grad, { beta1: 0.9, beta2: 0.999 }, scalars);
    const kernel = update(fusedOps);
    const stock = update(stockOps);
    for (const key of ['param', 'mean', 'square'] as const) expect(kernel[key]).toBeAllclose(stock[key]);
  });
});
