import { type Tensor, tf } from '../tensor/tf';
import type { Picture } from './dataset';
import { evaluationInput, type Size } from './transforms/augment';
import { type AugmentationOptions, parseAugmentation } from './transforms/augmentation';

/** What a network is given of one image, [1, h, w, 3]: resized and normalised as for evaluation. The caller disposes. Throws a UserError for options that don't exist. */
export function networkInput(picture: Picture, size: number | Size, options: AugmentationOptions = {}): Tensor {
  const [height, width] = typeof size === 'number' ? [size, size] : size;
  const values = evaluationInput(picture, [height, width], parseAugmentation(options));
  return tf.tensor4d(values, [1, height, width, 3]);
}
