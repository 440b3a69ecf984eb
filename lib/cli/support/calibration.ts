import { readPicture } from '../../data/dataset';
import { openDataset } from '../../data/open';
import { evaluationInput } from '../../data/transforms/augment';
import { parseAugmentation } from '../../data/transforms/augmentation';
import type { Model } from '../../model/module';
import type { Run } from '../../runs/store';
import { toChannelsFirst } from '../../tensor/layout';

/** Images whose values a network's ranges are taken from: enough for each class of a small dataset to be among them. */
const IMAGES = 128;

/** Training images of a run, evenly spaced over its classes, as an exported graph takes them: [3, h, w] each. Throws UserError where they are gone. */
export async function* trainingImages({ record }: Run, { inputSize }: Model): AsyncGenerator<Float32Array> {
  const { train } = await openDataset(record.recipe.data, { ...record.dataOptions, mayDownload: false });
  const augment = parseAugmentation(record.recipe.augment);
  const count = Math.min(IMAGES, train.length);
  for (let i = 0; i < count; i++) {
    const picture = readPicture(train, Math.floor((i * train.length) / count));
    yield toChannelsFirst(evaluationInput(picture, inputSize, augment), [1, ...inputSize, 3]);
  }
}
