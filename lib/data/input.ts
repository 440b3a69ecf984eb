import { type Tensor, tf } from '../tensor/tf';
import type { Picture } from './dataset';
import { augmentPicture, type Size } from './transforms/augment';
import { type AugmentationOptions, parseAugmentation } from './transforms/augmentation';

/** What a network is given of one image, [1, h, w, 3]: resized and normalised as for evaluation. The caller disposes. Throws a UserError for options that don't exist. */
export function networkInput(
  picture: Picture,
  size: number | Size,
  { mean, std, interpolation, centerCrop }: AugmentationOptions = {},
): Tensor {
  const [height, width] = typeof size === 'number' ? [size, size] : size;
  const values = new Float32Array(height * width * 3);
  augmentPicture(picture, values, [height, width], parseAugmentation({ mean, std, interpolation, centerCrop }), () => {
    throw new Error('Evaluation draws nothing at random.');
  });
  return tf.tensor4d(values, [1, height, width, 3]);
}
