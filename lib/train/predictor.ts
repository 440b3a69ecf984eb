import type { Picture } from '../data/dataset';
import { networkInput } from '../data/input';
import type { Image, LoadedModel } from '../library';
import { type Tensor, tf } from '../tensor/tf';
import { Failure } from '../util/errors';
import { type ClassProbability, ranked } from './ranked';
import { evalStep } from './step';
import { type Trained, weightsOf } from './trained';

export interface Predictor {
  /** All classes, the likeliest first. */
  predict(image: Picture): Promise<ClassProbability[]>;
  dispose(): void;
}

/** How a function of images is computed: as a graph, or op by op. */
export type Computation = (images: Tensor) => Tensor;
export type Compile = (logits: Computation, name: string) => Computation & { dispose(): void };

/** A model that is asked about single images; op by op unless `compile` is given. Needs an engine. */
export function openPredictor(trained: Trained, compile?: Compile): Predictor {
  const { model, classes, augment } = trained;
  const { params, buffers } = weightsOf(trained);
  const logits = evalStep(model);
  const eager: Computation = images => logits(params, buffers, images);
  const compiled = compile?.(eager, model.name);
  return {
    async predict(image) {
      const input = networkInput(image, model.inputSize, augment);
      const probabilities = tf.tidy(() => tf.softmax((compiled ?? eager)(input)));
      const values = await probabilities.data();
      tf.dispose([input, probabilities]);
      if (values.some(Number.isNaN))
        throw new Failure(
          `${model.name} gives no probabilities for this image, but NaN: its weights hold NaN or infinity.`,
        );
      return ranked(values, classes);
    },
    dispose() {
      compiled?.dispose();
      tf.dispose([params, buffers]);
    },
  };
}

/** A predictor as other people's programs see it. `read` gives an image as a dataset's are read for the model, or throws UserError. */
export function libraryModel(
  { model, classes }: Trained,
  predictor: Predictor,
  read: (image: Image) => Promise<Picture>,
): LoadedModel {
  return {
    name: model.name,
    classes,
    inputSize: model.inputSize,
    predict: async (image, { top = 5 } = {}) => (await predictor.predict(await read(image))).slice(0, top),
    dispose: () => predictor.dispose(),
  };
}
