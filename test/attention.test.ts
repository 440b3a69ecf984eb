import { expect, test } from 'vitest';
import { activations, upTo } from '../lib/measure/activations';
import { attentionEntropy, attentionMaps, attentionOf } from '../lib/measure/attention';
import { VARIANTS } from '../lib/model/config';
import { createModel } from '../lib/model/registry';
import { type Tensor, tf } from '../lib/tensor/tf';
import './allclose';

const model = createModel('edgevit-xxs', { numClasses: 3, size: [64, 96], sampleRates: [4, 2, 2, 1] });
const weights = model.init(0);
const images = tf.randomNormal([2, 64, 96, 3], 0, 1, 'float32', 1);

test.each([
  ['blocks1.0', 1, [4, 6]],
  ['blocks3.2', 4, [2, 3]],
  ['blocks4.1', 8, [2, 3]],
] as const)(
  'attention maps of %s have a row per delegate, and times the values they give what the block gives',
  (block, heads, grid) => {
    const maps = attentionMaps(model, weights, images, block);
    const n = grid[0] * grid[1];
    expect(maps.grid).toEqual(grid);
    expect(maps.weights.shape).toEqual([2, heads, n, n]);
    expect(tf.sum(maps.weights, -1)).toBeAllclose(tf.ones([2, heads, n]));

    const attn = `${block}.SelfAttn.attn`;
    const { [`${attn}.qkv`]: qkv, [`${attn}.attention`]: expected } = activations(model, weights, images, [
      `${attn}.qkv`,
      `${attn}.attention`,
    ]);
    const c = qkv.shape[2]! / 3;
    const values = tf.transpose(
      tf.reshape(tf.slice(qkv, [0, 0, 2 * c], [2, n, c]), [2, n, heads, c / heads]),
      [0, 2, 1, 3],
    );
    expect(tf.reshape(tf.transpose(tf.matMul(maps.weights, values), [0, 2, 1, 3]), [2, n, c])).toBeAllclose(expected);
  },
);

test('the row of a query is what its delegate takes; weights without their grid, or of another one, are refused', () => {
  const maps = attentionMaps(model, weights, images, 'blocks3.2');
  const [rows, columns] = maps.grid;
  const values = maps.weights.arraySync() as number[][][][];
  expect(attentionOf(maps, [1, 2], 1).map(row => Array.from(row))).toEqual(
    values[1].map(head => head[1 * columns + 2]),
  );
  expect(() => attentionOf(tf.ones([rows * columns, rows * columns]) as never, [0, 0])).toThrow(TypeError);
  expect(() => attentionOf({ ...maps, grid: [rows, columns + 1] }, [0, 0])).toThrow(TypeError);
  expect(() => attentionOf({ ...maps, weights: tf.slice(maps.weights, [0, 0, 0, 0], [1, 4, 1, 6]) }, [0, 0])).toThrow(
    TypeError,
  );
  expect(() => attentionOf(maps, [rows, 0])).toThrow(RangeError);
  expect(() => attentionOf(maps, [0, 0], 2)).toThrow(RangeError);
});

test('a block that does not exist, or does not attend, is refused', () => {
  expect(() => attentionMaps(model, weights, images, 'blocks1.1')).toThrow("has no block 'blocks1.1' that attends");
  const local = createModel('edgevit-xxs', { numClasses: 3, size: 64, ablation: 'localAggOnly' });
  expect(() => attentionMaps(local, local.init(0), images, 'blocks1.0')).toThrow('attends');
});

test('entropy is the logarithm of how many weigh alike', () => {
  expect(
    attentionEntropy(
      tf.tensor2d([
        [0.25, 0.25, 0.25, 0.25],
        [0, 1, 0, 0],
        [0.5, 0, 0.5, 0],
      ]),
    ),
  ).toBeAllclose(tf.tensor1d([2, 0, 1]));
  expect(() => attentionEntropy(tf.tensor1d([1, 2]))).toThrow(RangeError); // logits
});

test('activations are those of the layers by name, and leave no tensors behind', () => {
  const last = `blocks4.${VARIANTS['edgevit-xxs'].depths[3] - 1}`;
  const before = tf.memory().numTensors;
  const outputs = activations(model, weights, images, [last, 'head']);
  expect(tf.memory().numTensors).toBe(before + 2);
  expect(outputs[last].shape).toEqual([2, 2, 3, 288]);
  expect(outputs.head).toBeAllclose(model.forward(images, weights.params, weights.buffers, { train: false }).logits);
  expect(tf.tidy(() => upTo(model, weights, last)(images)) as Tensor).toBeAllclose(outputs[last]);
  expect(() => activations(model, weights, images, ['tail'])).toThrow("no layer 'tail'");
  expect(() => upTo(model, weights, 'tail')(images)).toThrow("no layer 'tail'");
});
