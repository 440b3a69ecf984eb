import type { EdgeViTConfig } from '../model/config';
import { stageBlocks } from '../model/edgevit';
import type { Model } from '../model/module';
import { attentionWeights } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import { UserError } from '../util/errors';
import { activations, type Weights } from './activations';

export interface AttentionMaps {
  /** [b, heads, delegates, delegates]: of each query's row, which sums to 1, what it takes from each delegate. */
  weights: Tensor;
  /** Rows and columns of delegates; they are numbered row by row. */
  grid: readonly [rows: number, columns: number];
}

/** What the delegates of EdgeViT's block `block` (`blocks3.0`) attend to in images [b, h, w, 3]. The caller disposes `weights`. Throws UserError for a block that does not exist or does not attend. */
export function attentionMaps(model: Model, weights: Weights, images: Tensor, block: string): AttentionMaps {
  const config = model.config as EdgeViTConfig;
  const [, stage, index] = /^blocks(\d)\.(\d+)$/.exec(block) ?? [];
  const blockConfig = stageBlocks(config)[Number(stage) - 1]?.[Number(index)];
  if (!blockConfig?.attention || !blockConfig.delegatesAttend)
    throw new UserError(`${model.name} has no block '${block}' that attends.`);
  const { heads, attentionScale, qkvOrder, sampleRate } = blockConfig;
  const qkv = `${block}.SelfAttn.attn.qkv`;
  const before = `${block}.SelfAttn`;
  const outputs = activations(model, weights, images, [qkv, before]);
  const [, height, width] = outputs[before].shape;
  const maps = tf.tidy(
    () => attentionWeights(outputs[qkv], { heads, scale: attentionScale ? undefined : 1, order: qkvOrder }).weights,
  );
  tf.dispose(outputs);
  return { weights: maps, grid: [height! / sampleRate, width! / sampleRate] };
}

/** Entropy of each row of attention weights, in bits; the logarithm of the number of keys where all weigh the same. [..., n] → [...]. */
export function attentionEntropy(weights: Tensor): Tensor {
  return tf.tidy(() => tf.div(tf.neg(tf.sum(tf.mul(weights, tf.log(tf.maximum(weights, 1e-30))), -1)), Math.LN2));
}
