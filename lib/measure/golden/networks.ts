import { compile } from '../../engine/compile/compile';
import type { Model, Params } from '../../model/module';
import { createModel } from '../../model/registry';
import { type Tensor, tf } from '../../tensor/tf';
import { crossEntropy } from '../../train/loss';
import { evalStep } from '../../train/step';
import { random } from '../../util/random';
import { type Check, digestTensor, digestTensors, type Parts } from './parts';

/** Networks in their own widths, one block a stage where that can be, of small images. */
const NETWORKS: Record<string, { size: number; set?: string[] }> = {
  'edgevit-xxs': { size: 64, set: ['depths=1,1,1,1'] },
  'edgevit-xs': { size: 64, set: ['depths=1,1,1,1'] },
  'edgevit-s': { size: 96, set: ['depths=1,1,1,1'] },
  article: { size: 32 },
  'vit-tiny': { size: 32, set: ['depth=2'] },
  'mobilenet-v2': { size: 64, set: ['width=0.25'] },
};

const CLASSES = 7;

function imagesFor(model: Model, batch: number): Tensor {
  const rng = random('golden images');
  const shape = [batch, ...model.inputSize, 3];
  return tf.tensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => 4 * rng.uniform() - 2),
    shape,
  );
}

function labelsFor(batch: number): Tensor {
  return tf.oneHot(
    Array.from({ length: batch }, (_, i) => i % CLASSES),
    CLASSES,
  );
}

/** Logits of one image and of three, by weights that are constants and by weights that are inputs, and gradients on three images. */
function networkParts(name: string, options: { size: number; set?: string[] }): Parts {
  const model = createModel(name, { numClasses: CLASSES, ...options });
  const { params, buffers } = model.init(0);
  const evaluation = evalStep(model);
  const constant = compile((images: Tensor) => evaluation(params, buffers, images), { capture: 'constant' });
  const input = compile(evaluation);
  const gradients = compile(
    (params: Params, images: Tensor, targets: Tensor) =>
      tf.tidy(() => {
        const names = Object.keys(params);
        const noise = tf.fill([model.dropPathSites, images.shape[0]!], 0.5);
        const { grads } = tf.valueAndGrads((...values: Tensor[]) => {
          const current = Object.fromEntries(names.map((name, i) => [name, values[i]!]));
          return crossEntropy(model.forward(images, current, buffers, { train: true, noise }).logits, targets, 0.1);
        })(names.map(name => params[name]!));
        return Object.fromEntries(names.map((name, i) => [name, grads[i]!]));
      }),
    { capture: 'input' },
  );
  const parts: Parts = {};
  for (const batch of [1, 3])
    tf.tidy(() => {
      const images = imagesFor(model, batch);
      parts[`logits of ${batch}, constant weights`] = digestTensor(constant(images));
      parts[`logits of ${batch}`] = digestTensor(input(params, buffers, images));
    });
  const [images, targets] = [imagesFor(model, 3), tf.tidy(() => tf.cast(labelsFor(3), 'float32'))];
  // From the last layer to the first, as they are computed.
  const found = Object.entries(digestTensors(gradients(params, images, targets))).reverse();
  for (const [name, digest] of found) parts[`gradient of ${name}`] = digest;
  for (const compiled of [constant, input, gradients]) compiled.dispose();
  tf.dispose([params, buffers, images, targets]);
  return parts;
}

export function networkChecks(): Check[] {
  return Object.entries(NETWORKS).map(([name, options]) => ({
    name: `network ${name}`,
    run: async () => networkParts(name, options),
  }));
}
