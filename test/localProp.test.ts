import { expect, test } from 'vitest';
import { errorByPlace, fitLocalProp } from '../lib/measure/localProp';
import { sampleTopLeft } from '../lib/model/layers';
import { ops } from '../lib/tensor/ops';
import { tf } from '../lib/tensor/tf';
import './allclose';

test('a LocalProp that leaves the delegate as it is, is found again from what it has made', () => {
  const weight = tf.tensor3d([1, 1, 0.5, -2, 3, 0, 0.1, 0.7], [2, 2, 2]);
  const made = ops.localProp(tf.randomNormal([4, 5, 6, 2], 0.3, 1, 'float32', 2), weight, tf.zeros([2]));
  const fitted = fitLocalProp(made, 2);
  expect(fitted.weight).toBeAllclose(weight);
  expect(fitted.bias).toBeAllclose(tf.zeros([2]));
});

test('the fit is where the gradient of the squared error is zero', () => {
  const x = tf.randomNormal([3, 6, 8, 2], 0.4, 1, 'float32', 3);
  const { weight, bias } = fitLocalProp(x, 2);
  const loss = (w: typeof weight, b: typeof bias) =>
    tf.mean<ReturnType<typeof tf.scalar>>(tf.square(tf.sub(ops.localProp(sampleTopLeft(x, 2), w, b), x)));
  const [dw, db] = tf.grads(loss as never)([weight, bias]);
  expect(dw).toBeAllclose(tf.zerosLike(dw), 1e-6);
  expect(db).toBeAllclose(tf.zerosLike(db), 1e-6);
});

test('errors are told by place', () => {
  const x = tf.zeros([2, 4, 4, 1]);
  const y = tf.tensor4d(
    Array.from({ length: 32 }, (_, i) => (i % 2 === 1 ? 3 : 0)),
    [2, 4, 4, 1],
  );
  expect(errorByPlace(x, y, 2)).toBeAllclose(
    tf.tensor2d([
      [0, 3],
      [0, 3],
    ]),
  );
});
