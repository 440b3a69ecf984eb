import { compile } from '../engine/compile/compile';
import type { Model } from '../model/module';
import { type Tensor, tf } from '../tensor/tf';
import { evalStep } from '../train/step';
import { random } from '../util/random';
import { type Contender, stopwatch } from './latency';

/**
 * The prediction of `batch` images, from host memory to logits in host memory, as something to be timed: compiled with constant
 * weights, or op by op. Weights and images are random, on which no time depends.
 */
export function prediction(model: Model, batch: number, compiled: boolean): Contender & { dispose(): void } {
  const [height, width] = model.inputSize;
  const rng = random('pictures');
  const pixels = Float32Array.from({ length: batch * height * width * 3 }, () => 4 * rng.uniform() - 2);
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
