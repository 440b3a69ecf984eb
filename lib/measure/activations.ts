import { compile } from '../engine/compile/compile';
import type { Buffers, Model, Params } from '../model/module';
import { type Tensor, tf } from '../tensor/tf';

/** What a model needs beside its input. */
export type Weights = { params: Params; buffers: Buffers };

/** What the named layers make of images [b, h, w, 3], in evaluation mode; the layers' official names lead to their outputs. The caller disposes. Throws for a name that no layer has. */
export function activations(
  model: Model,
  { params, buffers }: Weights,
  images: Tensor,
  layers: readonly string[],
): Record<string, Tensor> {
  const run = compile(
    (images: Tensor, params: Params, buffers: Buffers) =>
      tf.tidy(() => {
        const outputs: Record<string, Tensor> = {};
        model.forward(images, params, buffers, {
          train: false,
          tap: (layer, _kind, _input, output) => {
            if (layers.includes(layer)) outputs[layer] = tf.keep(tf.clone(output));
          },
        });
        const missing = layers.find(layer => !outputs[layer]);
        if (missing !== undefined) throw new Error(`${model.name} has no layer '${missing}'.`);
        return outputs;
      }),
    { name: `the layers of ${model.name}` },
  );
  try {
    return run(images, params, buffers);
  } finally {
    run.dispose();
  }
}

/** A model up to one of its layers, in evaluation mode, as a function of images [b, h, w, 3] that can be differentiated and compiled. No `tidy` frees the result: the caller does. Throws for a name that no layer has. */
export function upTo(model: Model, { params, buffers }: Weights, layer: string): (images: Tensor) => Tensor {
  return images => {
    let output: Tensor | undefined;
    model.forward(images, params, buffers, {
      train: false,
      tap: (name, _kind, _input, result) => {
        if (name === layer) output = tf.keep(tf.clone(result));
      },
    });
    if (!output) throw new Error(`${model.name} has no layer '${layer}'.`);
    return output;
  };
}
