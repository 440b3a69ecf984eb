import { random } from '../util/random';
import type { PictureReader, Split } from './dataset';
import { augmentPicture, type Size } from './transforms/augment';
import type { Augmentation } from './transforms/augmentation';
import { applyMix, drawMix } from './transforms/mix';

/** What the network is given at once. */
export interface Batch {
  /** [count, height, width, 3], normalised. */
  images: Float32Array;
  /** [count, classes]: one-hot, or the fractions of two classes where images were mixed. */
  targets: Float32Array;
  /** [count]: each image's own class. */
  labels: Int32Array;
  /** [count]: which images of the split these are. */
  indices: Int32Array;
  count: number;
}

/** Everything that a batch depends on, beside the split itself. */
export interface BatchRequest {
  indices: Int32Array;
  size: Size;
  augment: Augmentation;
  seed: string | number;
  epoch: number;
}

/** Reads, augments and stacks images. Each is a pure function of (seed, epoch, image), wherever and in whatever order it is made. */
export function collate(
  split: Split,
  reader: PictureReader,
  { indices, size, augment, seed, epoch }: BatchRequest,
): Batch {
  const pixels = size[0] * size[1] * 3;
  const images = new Float32Array(indices.length * pixels);
  const targets = new Float32Array(indices.length * split.numClasses);
  const labels = Int32Array.from(indices, index => split.labels[index]);
  const rng = random(seed);
  const draw = (index: number, out: Float32Array): void =>
    augmentPicture(reader.read(index), out, size, augment, name => rng.fork('augment', epoch, index, name));

  const partner = new Float32Array(augment.mixup > 0 || augment.cutmix > 0 ? pixels : 0);
  indices.forEach((index, i) => {
    const image = images.subarray(i * pixels, (i + 1) * pixels);
    const target = targets.subarray(i * split.numClasses, (i + 1) * split.numClasses);
    draw(index, image);
    if (partner.length === 0) {
      target[labels[i]] = 1;
      return;
    }
    const mix = drawMix(augment, split.length, size, rng.fork('augment', epoch, index, 'mix'));
    draw(mix.partner, partner);
    applyMix(image, partner, mix, size[1]);
    target[labels[i]] += mix.keep;
    target[split.labels[mix.partner]] += 1 - mix.keep;
  });
  return { images, targets, labels, indices, count: indices.length };
}
