import type { EdgeViTConfig } from '../model/config';
import { stageBlocks } from '../model/edgevit';
import type { Model } from '../model/module';
import { type AttentionOptions, attentionWeights } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import { UserError } from '../util/errors';
import { activations, type Weights } from './activations';

type BlockConfig = ReturnType<typeof stageBlocks>[number][number];

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
    const config = configs.get(block)!;
    const { sampleRate } = config;
    const [qkv, before] = layers(block);
    const [, height, width] = outputs[before]!.shape;
    const weights = tf.tidy(() => attentionWeights(outputs[qkv]!, optionsOf(config)).weights);
    return [block, { weights, grid: [height! / sampleRate, width! / sampleRate] }];
  });
  tf.dispose(outputs);
  return Object.fromEntries(maps);
}

/**
 * Logits [b, classes] of images [b, h, w, 3] and, of each block that attends, how much its delegates are attended to: [b, heads, delegates],
 * the mean over those that ask. In evaluation mode; it can be compiled. The caller disposes.
 */
export function logitsAndAttention(model: Model, { params, buffers }: Weights, images: Tensor): Tensor[] {
  const layers = new Map([...attendingBlocks(model)].map(([name, block]) => [`${name}.SelfAttn.attn.qkv`, block]));
  const received: Tensor[] = [];
  const { logits } = model.forward(images, params, buffers, {
    train: false,
    tap(layer, _kind, _input, qkv) {
      const block = layers.get(layer);
      if (block) received.push(tf.keep(tf.tidy(() => tf.mean(attentionWeights(qkv, optionsOf(block)).weights, 2))));
    },
  });
  return [logits, ...received];
}

/** Whether a network has delegates that attend. */
export const attends = (model: Model): boolean => attendingBlocks(model).size > 0;

const optionsOf = ({ heads, attentionScale, qkvOrder }: BlockConfig): AttentionOptions => ({
  heads,
  scale: attentionScale ? undefined : 1,
  order: qkvOrder,
});

/** The configurations of an EdgeViT's blocks whose delegates attend, by name, in the order of the forward pass; none of other networks. */
function attendingBlocks({ name, config }: Model): Map<string, BlockConfig> {
  const stages = name.startsWith('edgevit') ? stageBlocks(config as EdgeViTConfig) : [];
  return new Map(
    stages.flatMap((blocks, i) =>
      blocks.flatMap((block, j) =>
        block.attention && block.delegatesAttend ? [[`blocks${i + 1}.${j}`, block] as const] : [],
      ),
    ),
  );
}

/**
 * What one query takes from each delegate, for each head: rows of maps, of one image of the batch. Throws TypeError for weights that are not
 * those of the grid's delegates to each other, RangeError for a query or an image that is not there.
 */
export function attentionOf(
  maps: AttentionMaps,
  [row, column]: readonly [row: number, column: number],
  image = 0,
): ArrayLike<number>[] {
  if (!maps.grid || !maps.weights)
    throw new TypeError(
      'Attention maps are { weights, grid }, as attentionMaps gives them: weights alone do not tell queries from places.',
    );
  const {
    weights,
    grid: [rows, columns],
  } = maps;
  const delegates = rows * columns;
  if (weights.rank !== 4 || weights.shape[2] !== delegates || weights.shape[3] !== delegates)
    throw new TypeError(
      `With a grid of ${rows}×${columns} attention weights are [b, heads, ${delegates}, ${delegates}], not [${weights.shape.join(', ')}].`,
    );
  const [images, heads] = weights.shape as [number, number, number, number];
  const inside = (at: number, length: number): boolean => Number.isInteger(at) && at >= 0 && at < length;
  if (!inside(row, rows) || !inside(column, columns))
    throw new RangeError(
      `There is no delegate at row ${row}, column ${column}: the grid is ${rows}×${columns}, from 0.`,
    );
  if (!inside(image, images)) throw new RangeError(`There is no image ${image}: the maps are of ${images}, from 0.`);
  const asked = tf.tidy(() =>
    tf.slice(weights, [image, 0, row * columns + column, 0], [1, heads, 1, delegates]).dataSync(),
  );
  return Array.from({ length: heads }, (_, head) => asked.subarray(head * delegates, (head + 1) * delegates));
}

/**
 * Entropy of each row of attention weights, in bits; the logarithm of the number of keys where all weigh the same. [..., n] → [...]. Throws
 * RangeError where rows do not sum to 1, as logits do not.
 */
export function attentionEntropy(weights: Tensor): Tensor {
  const off = tf.tidy(() => tf.max(tf.abs(tf.sub(tf.sum(weights, -1), 1))).dataSync()[0]!);
  if (!(off < 1e-3))
    throw new RangeError(`Rows of attention weights sum to 1; of these one is ${off.toPrecision(2)} away.`);
  return tf.tidy(() => tf.div(tf.neg(tf.sum(tf.mul(weights, tf.log(tf.maximum(weights, 1e-30))), -1)), Math.LN2));
}
