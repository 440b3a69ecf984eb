import { expect, test } from 'vitest';
import { fieldExtent, influenceByDistance, logInfluence, receptiveField } from '../lib/measure/receptiveField';
import { localAgg } from '../lib/model/blocks';
import { VARIANTS } from '../lib/model/config';
import { stageBlocks } from '../lib/model/edgevit';
import { definePart, initialise } from '../lib/model/module';
import { type Tensor4D, tf } from '../lib/tensor/tf';
import { random } from '../lib/util/random';
import './allclose';

test('the field of a convolution is its kernel around the place', () => {
  const kernel = tf.tensor4d([1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 3, 1, 1]);
  const before = tf.memory().numTensors;
  const x = tf.zeros([1, 5, 6, 1]);
  const field = receptiveField(x => tf.conv2d(x as Tensor4D, kernel, 1, 'same'), x, [2, 3]);
  expect(tf.memory().numTensors).toBe(before + 2);
  expect(tf.slice(field as never, [1, 2], [3, 3])).toBeAllclose(tf.reshape(kernel, [3, 3]));
  expect(fieldExtent(field)).toEqual({ height: 3, width: 3, places: 9 });
  expect(influenceByDistance(field, [2, 3])).toEqual([5 / 45, 1, 1, 1].map(share => expect.closeTo(share, 6)));
  expect(logInfluence(field)[2 * 6 + 3]).toBeCloseTo(Math.log10(5 / 9), 6);
  expect(logInfluence(field)[0]).toBe(-Infinity);
});

test('the norm over input channels counts, their signs do not', () => {
  const kernel = tf.tensor4d([3, -4], [1, 1, 2, 1]);
  expect(receptiveField(x => tf.conv2d(x as Tensor4D, kernel, 1, 'same'), tf.ones([1, 1, 1, 2]), [0, 0])).toBeAllclose(
    tf.tensor2d([[5]]),
  );
});

test('a LocalAgg sees three tokens to every side, also when the image is not square', () => {
  const [block] = stageBlocks(VARIANTS['edgevit-xxs'])[0];
  const part = definePart(scope => localAgg(scope, block));
  const [params, buffers] = [part.params, part.buffers].map(specs => initialise(specs, random(0)));
  const field = receptiveField(
    x => part.forward(x, params, buffers, { train: false }).output,
    tf.randomNormal([1, 11, 15, block.dim], 0, 1, 'float32', 2),
    [5, 7],
  );
  expect(field.shape).toEqual([11, 15]);
  expect(fieldExtent(field)).toEqual({ height: 7, width: 7, places: 49 });
});

test('a network that ignores its input has an empty field', () => {
  const field = receptiveField(x => tf.mul(x, 0), tf.ones([1, 2, 2, 1]), [0, 0]);
  expect(fieldExtent(field)).toEqual({ height: 0, width: 0, places: 0 });
});
