import { compile } from '../engine/compile/compile';
import type { Model } from '../model/module';
import { type Tensor, tf } from '../tensor/tf';
import { evalStep } from '../train/step';
import { random } from '../util/random';
import { type Contender, stopwatch } from './latency';

/** [batch, h, w, 3], as normalised images are: no time depends on their values. */
export function randomImages({ inputSize: [height, width] }: Model, batch: number): Float32Array {
  const rng = random('pictures');
  return Float32Array.from({ length: batch * height * width * 3 }, () => 4 * rng.uniform() - 2);
}

/**
 * The prediction of `batch` images, from host memory to logits in host memory, as something to be timed: compiled with constant
 * weights, or op by op. Weights and images are random, on which no time depends.
 */
export function prediction(model: Model, batch: number, compiled: boolean): Contender & { dispose(): void } {
  const [height, width] = model.inputSize;
  const pixels = randomImages(model, batch);
  const { params, buffers } = model.init(0);
  const logits = evalStep(model);
  const predict = (images: Tensor): Tensor => logits(params, buffers, images);
  const graph = compiled ? compile(predict, { capture: 'constant', name: model.name }) : undefined;
  const work = (): void => {
    const images = tf.tensor4d(pixels, [batch, height, width, 3]);
    const output = (graph ?? predict)(images);
    output.dataSync();
    tf.dispose([images, output]);
  };
  const dispose = (): void => {
    graph?.dispose();
    tf.dispose([params, buffers]);
  };
  return { ...stopwatch(model.name, work), dispose };
}
