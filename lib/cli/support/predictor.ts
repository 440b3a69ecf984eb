import { decode } from '../../data/cache/decode';
import { DEFAULT_SIDE, withSide } from '../../data/cache/side';
import type { Picture } from '../../data/dataset';
import { networkInput } from '../../data/input';
import { readImage } from '../../data/sources/file';
import { compile } from '../../engine/compile/compile';
import { type Exportable, weightsOf } from '../../export/exportable';
import type { SeenImage } from '../../jupyter/display/attentionPage';
import { allAttentionMaps, attends } from '../../measure/attention';
import { type Tensor, tf } from '../../tensor/tf';
import { evalStep } from '../../train/step';
import { UserError } from '../../util/errors';

export interface ClassProbability {
  /** Of the output. */
  label: number;
  name: string;
  probability: number;
}

export interface Predictor {
  /** Whether it has delegates that attend. */
  readonly attends: boolean;
  /** All classes, the likeliest first; of equal ones, the earlier. */
  predict(photo: Picture): ClassProbability[];
  /** What each block's delegates attend to, the mean over them, and the image as the network sees it. */
  attention(photo: Picture): Pick<SeenImage, 'picture' | 'blocks'>;
  dispose(): void;
}

/** An image file as a dataset's are read for this model. Throws UserError for a file that is none. */
export async function readPhoto(path: string, { model, reading }: Exportable): Promise<Picture> {
  const { side = DEFAULT_SIDE } = withSide({ side: reading.side }, model.inputSize);
  try {
    return await decode(await readImage(path), side, reading.decode);
  } catch (error) {
    throw new UserError(`'${path}' can't be read: ${(error as Error).message}.`);
  }
}

/** A model that is asked about single images. Needs an open engine. */
export function openPredictor(source: Exportable): Predictor {
  const { model, classes, augment } = source;
  const weights = weightsOf(source);
  const logits = evalStep(model);
  const run = compile((images: Tensor) => tf.softmax(logits(weights.params, weights.buffers, images)), {
    capture: 'constant',
    name: model.name,
  });
  return {
    attends: attends(model),
    predict(photo) {
      const input = networkInput(photo, model.inputSize, augment);
      const probabilities = run(input);
      const values = Array.from(probabilities.dataSync());
      tf.dispose([input, probabilities]);
      return values
        .map((probability, label) => ({ label, name: classes[label]!, probability }))
        .sort((a, b) => b.probability - a.probability || a.label - b.label);
    },
    attention(photo) {
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
      const picture = pictureOf(input.dataSync() as Float32Array, model.inputSize, augment);
      input.dispose();
      return { picture, blocks };
    },
    dispose() {
      run.dispose();
      tf.dispose([weights.params, weights.buffers]);
    },
  };
}

/** What the network sees, as an image again. */
function pictureOf(
  values: Float32Array,
  [height, width]: readonly [number, number],
  { mean, std }: Exportable['augment'],
): Picture {
  const pixels = Uint8ClampedArray.from(values, (value, i) => 255 * (value * std[i % 3]! + mean[i % 3]!));
  return { width, height, pixels: new Uint8Array(pixels) };
}
