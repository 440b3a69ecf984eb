import { sampleTopLeft } from '../model/layers';
import { type Tensor, tf } from '../tensor/tf';

/** Weight [r, r, c] and bias [c] of LocalProp. */
export type LocalPropWeights = { weight: Tensor; bias: Tensor };

/**
 * The LocalProp that, in the sense of least squares, comes closest to images x [b, h, w, c] from their delegates, the top-left pixels of
 * r×r windows: the minimum over `weight` and `bias` of Σ (x − weight · delegate − bias)². The caller disposes.
 */
export function fitLocalProp(x: Tensor, rate: number): LocalPropWeights {
  return tf.tidy(() => {
    const [b, h, w, c] = x.shape as [number, number, number, number];
    const r = rate;
    const windows = tf.reshape(x, [b, h / r, r, w / r, r, c]);
    const delegate = tf.reshape(sampleTopLeft(x, r), [b, h / r, 1, w / r, 1, c]);
    // The normal equations, per channel: the bias is one for all places of the window, the weight is one for each.
    const mean = tf.mean(delegate, [0, 1, 2, 3, 4]);
    const square = tf.mean(tf.square(delegate), [0, 1, 2, 3, 4]);
    const products = tf.mean(tf.mul(windows, delegate), [0, 1, 3]);
    const means = tf.mean(windows, [0, 1, 3]);
    const slope = tf.div(mean, square);
    const bias = tf.div(
      tf.sub(tf.mean(means, [0, 1]), tf.mul(slope, tf.mean(products, [0, 1]))),
      tf.sub(1, tf.mul(slope, mean)),
    );
    return { weight: tf.div(tf.sub(products, tf.mul(bias, mean)), square), bias };
  });
}

/** The root of the mean squared difference between images [b, h, w, c], by place in the r×r window: [r, r]. The caller disposes. */
export function errorByPlace(x: Tensor, y: Tensor, rate: number): Tensor {
  return tf.tidy(() => {
    const [b, h, w, c] = x.shape as [number, number, number, number];
    const squared = tf.reshape(tf.square(tf.sub(x, y)), [b, h / rate, rate, w / rate, rate, c]);
    return tf.sqrt(tf.mean(squared, [0, 1, 3, 5]));
  });
}
