import type { Picture } from '../../data/dataset';
import { networkInput } from '../../data/input';
import { denormalised } from '../../data/transforms/augment';
import type { SeenImage } from '../../jupyter/display/attentionPage';
import { allAttentionMaps } from '../../measure/attention';
import { tf } from '../../tensor/tf';
import { type Trained, weightsOf } from '../../train/trained';

/** What each block's delegates attend to in an image, the mean over them, and the image as the network sees it. Needs an open engine. */
export function attentionOver(photo: Picture, trained: Trained): Pick<SeenImage, 'picture' | 'blocks'> {
  const { model, augment } = trained;
  const weights = weightsOf(trained);
  const input = networkInput(photo, model.inputSize, augment);
  const maps = allAttentionMaps(model, weights, input);
  const blocks = Object.entries(maps).map(([name, { weights, grid }]) => {
    const received = tf.tidy(() => tf.mean(weights, 2)); // [1, heads, delegates]
    const values = received.dataSync() as Float32Array;
    const [, heads, delegates] = received.shape as [number, number, number];
    tf.dispose([received, weights]);
    return {
      name,
      grid,
      heads: Array.from({ length: heads }, (_, h) => values.subarray(h * delegates, (h + 1) * delegates)),
    };
  });
  const picture = denormalised(input.dataSync() as Float32Array, model.inputSize, augment);
  tf.dispose([input, weights.params, weights.buffers]);
  return { picture, blocks };
}
