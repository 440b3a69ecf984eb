import { readFileSync } from 'node:fs';
import { decode } from '../data/cache/decode';
import { DEFAULT_SIDE, withSide } from '../data/cache/side';
import type { Picture } from '../data/dataset';
import { networkInput } from '../data/input';
import { compile } from '../engine/compile/compile';
import { openEngine } from '../engine/open';
import type * as library from '../library';
import type { Image, LoadedModel } from '../library';
import { type Tensor, tf } from '../tensor/tf';
import { type ClassProbability, ranked } from '../train/ranked';
import { evalStep } from '../train/step';
import { type Trained, weightsOf } from '../train/trained';
import { UserError } from '../util/errors';
import { openRun } from './store';
import { trainedFile, trainedRun } from './trained';

export const loadModel: typeof library.loadModel = async (file, options) => serve(await trainedFile(file, options));

export const loadRun: typeof library.loadRun = async folder => serve(await trainedRun(openRun('.', folder)));

async function serve(trained: Trained): Promise<LoadedModel> {
  await openEngine();
  const predictor = openPredictor(trained);
  return {
    name: trained.model.name,
    classes: trained.classes,
    inputSize: trained.model.inputSize,
    predict: async (image, { top = 5 } = {}) =>
      (await predictor.predict(await readImage(image, trained))).slice(0, top),
    dispose: () => predictor.dispose(),
  };
}

/** An image as a dataset's are read for this model. Throws UserError for what is none. */
export async function readImage(image: Image, { model, reading }: Trained): Promise<Picture> {
  if (typeof image !== 'string' && 'pixels' in image) return image;
  const { side = DEFAULT_SIDE } = withSide({ side: reading.side }, model.inputSize);
  try {
    return await decode(typeof image === 'string' ? readFileSync(image) : image, side, reading.decode);
  } catch (error) {
    const what = typeof image === 'string' ? `'${image}'` : 'The image';
    throw new UserError(`${what} can't be read: ${(error as Error).message}.`);
  }
}

export interface Predictor {
  /** All classes, the likeliest first. */
  predict(image: Picture): Promise<ClassProbability[]>;
  dispose(): void;
}

/** A model that is asked about single images. Needs an open engine. */
export function openPredictor(trained: Trained): Predictor {
  const { model, classes, augment } = trained;
  const { params, buffers } = weightsOf(trained);
  const logits = evalStep(model);
  const run = compile((images: Tensor) => logits(params, buffers, images), { capture: 'constant', name: model.name });
  return {
    async predict(image) {
      const input = networkInput(image, model.inputSize, augment);
      const probabilities = tf.tidy(() => tf.softmax(run(input)));
      const values = await probabilities.data();
      tf.dispose([input, probabilities]);
      return ranked(values, classes);
    },
    dispose() {
      run.dispose();
      tf.dispose([params, buffers]);
    },
  };
}
