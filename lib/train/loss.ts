import { type Scalar, type Tensor, tf } from '../tensor/tf';

/**
 * Mean cross-entropy. `logits` and `targets` are [b, classes]; targets are one-hot, or mixtures that sum to 1. Label
 * smoothing s moves the targets to (1 − s) t + s / classes, as PyTorch's `CrossEntropyLoss` and timm do (Szegedy et al. 2016).
 */
export function crossEntropy(logits: Tensor, targets: Tensor, smoothing = 0): Scalar {
  const classes = logits.shape[1]!;
  const smooth = smoothing === 0 ? targets : tf.add(tf.mul(targets, 1 - smoothing), smoothing / classes);
  return tf.neg(tf.mean<Scalar>(tf.sum(tf.mul(smooth, tf.logSoftmax(logits)), 1)));
}

/** How many images of the batch have their largest logit where their largest target is. Scalar. */
export function countCorrect(logits: Tensor, targets: Tensor): Scalar {
  return tf.sum(tf.cast(tf.equal(tf.argMax(logits, 1), tf.argMax(targets, 1)), 'float32'));
}
