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
  if (!attendingBlocks(model).has(block)) throw new UserError(`${model.name} has no block '${block}' that attends.`);
  return allAttentionMaps(model, weights, images, [block])[block]!;
}

/** The same of several blocks (by default all that attend), in one pass. The caller disposes. */
export function allAttentionMaps(
  model: Model,
  weights: Weights,
  images: Tensor,
  blocks: readonly string[] = [...attendingBlocks(model).keys()],
): Record<string, AttentionMaps> {
  const configs = attendingBlocks(model);
  const layers = (block: string): [qkv: string, before: string] => [`${block}.SelfAttn.attn.qkv`, `${block}.SelfAttn`];
  const outputs = activations(model, weights, images, blocks.flatMap(layers));
  const maps = blocks.map((block): [string, AttentionMaps] => {
    const { heads, attentionScale, qkvOrder, sampleRate } = configs.get(block)!;
    const [qkv, before] = layers(block);
    const [, height, width] = outputs[before]!.shape;
    const options = { heads, scale: attentionScale ? undefined : 1, order: qkvOrder };
    const weights = tf.tidy(() => attentionWeights(outputs[qkv]!, options).weights);
    return [block, { weights, grid: [height! / sampleRate, width! / sampleRate] }];
  });
  tf.dispose(outputs);
  return Object.fromEntries(maps);
}

/** Whether a network has delegates that attend. */
export const attends = (model: Model): boolean => attendingBlocks(model).size > 0;

/** The configurations of an EdgeViT's blocks whose delegates attend, by name, in the order of the forward pass; none of other networks. */
function attendingBlocks({ name, config }: Model): Map<string, ReturnType<typeof stageBlocks>[number][number]> {
  const stages = name.startsWith('edgevit') ? stageBlocks(config as EdgeViTConfig) : [];
  return new Map(
    stages.flatMap((blocks, i) =>
      blocks.flatMap((block, j) =>
        block.attention && block.delegatesAttend ? [[`blocks${i + 1}.${j}`, block] as const] : [],
      ),
    ),
  );
}

/** Entropy of each row of attention weights, in bits; the logarithm of the number of keys where all weigh the same. [..., n] → [...]. */
export function attentionEntropy(weights: Tensor): Tensor {
  return tf.tidy(() => tf.div(tf.neg(tf.sum(tf.mul(weights, tf.log(tf.maximum(weights, 1e-30))), -1)), Math.LN2));
}
