import { readPicture } from '../data/dataset';
import { petals } from '../data/sources/petals';
import { evaluationInput } from '../data/transforms/augment';
import { toChannelsFirst } from '../tensor/layout';
import type { Exportable } from './exportable';

/** As many pixels as tell how a network's channels go together: 24 images of 224 × 224. */
const PIXELS = 24 * 224 ** 2;
const AT_MOST = 144;

/**
 * Flowers that are drawn, as an exported graph takes images: [3, h, w] each. They are there for any weights, wherever these were trained, and the
 * same each time.
 */
export function* drawnImages({ model: { inputSize }, augment }: Exportable): Generator<Float32Array> {
  const [height, width] = inputSize;
  const count = Math.min(AT_MOST, Math.ceil(PIXELS / (height * width)));
  const { train } = petals({ train: Math.ceil(count / 12), test: 1 }); // of 12 species, one after the other
  for (let i = 0; i < count; i++)
    yield toChannelsFirst(evaluationInput(readPicture(train, i), inputSize, augment), [1, height, width, 3]);
}
