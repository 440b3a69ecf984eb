import * as ort from 'onnxruntime-node';
import { parseAugmentation } from '../../lib/data/transforms/augmentation';
import type { Exportable } from '../../lib/export/exportable';
import { inferenceGraph } from '../../lib/export/inference';
import { toOnnx } from '../../lib/export/onnx/convert';
import { encodeOnnx, type OnnxGraph } from '../../lib/export/onnx/graph';
import type { Weights } from '../../lib/measure/activations';
import { ABLATIONS } from '../../lib/model/config';
import type { Model } from '../../lib/model/module';
import { MODELS } from '../../lib/model/registry';
import { toChannelsFirst, torchShape, toTorch } from '../../lib/tensor/layout';
import { type Tensor, tf } from '../../lib/tensor/tf';
import { random } from '../../lib/util/random';

/** Every network that is exported: the models, of which one prints as another computes, and the ablations. */
export const NETWORKS = [
  ...MODELS.filter(name => name !== 'article-as-printed').map(name => ({ name, ablation: undefined })),
  ...Object.keys(ABLATIONS).map(ablation => ({ name: 'edgevit-xxs', ablation })),
];

/** Weights of which none is as it begins: norms that scale and shift, statistics of a training. */
export function trainedLike(model: Model): Weights {
  const rng = random('trained');
  const { params, buffers } = model.init(0);
  const changed = (tensors: Record<string, Tensor>, change: (value: number, name: string) => number) =>
    Object.fromEntries(
      Object.entries(tensors).map(([name, tensor]) => [
        name,
        tensor.rank === 1
          ? tf.tensor(
              (tensor.dataSync() as Float32Array).map(value => change(value, name)),
              tensor.shape,
            )
          : tensor,
      ]),
    );
  return {
    params: changed(params, value => value + 0.2 * rng.normal()),
    buffers: changed(buffers, (_, name) => (name.endsWith('var') ? 0.5 + rng.uniform() : 0.3 * rng.normal())),
  };
}

/** Such a model as one that can be exported. */
export function exportable(model: Model): Exportable {
  const { params, buffers } = trainedLike(model);
  const values = { ...params, ...buffers };
  const tensors = Object.fromEntries(
    [...model.params, ...model.buffers].map(spec => {
      const data = toTorch(spec, values[spec.name]!.dataSync() as Float32Array);
      return [spec.name, { dtype: 'F32' as const, shape: torchShape(spec), data }];
    }),
  );
  tf.dispose(values);
  const classes = Array.from({ length: model.numClasses }, (_, i) => `flower ${i}`);
  return { name: 'tiny', model, tensors, classes, augment: parseAugmentation(), reading: {} };
}

/** A model as ONNX, and its logits for two images by the lab and by ONNX Runtime. */
export async function bothWays(
  model: Model,
  opset: number,
): Promise<{ graph: OnnxGraph; bytes: Uint8Array; ours: Float32Array; theirs: Float32Array }> {
  const weights = trainedLike(model);
  const graph = toOnnx(inferenceGraph(model, weights, 'fused'), model.name, { opset });
  const bytes = encodeOnnx(graph);
  const [height, width] = model.inputSize;
  const rng = random('images');
  const pixels = Float32Array.from({ length: 2 * height * width * 3 }, () => rng.normal());
  const images = tf.tensor4d(pixels, [2, height, width, 3]);
  const { logits } = model.forward(images, weights.params, weights.buffers, { train: false });
  const ours = logits.dataSync() as Float32Array;
  tf.dispose([images, logits, weights.params, weights.buffers]);
  const session = await ort.InferenceSession.create(bytes);
  const channelsFirst = toChannelsFirst(pixels, [2, height, width, 3]);
  const results = await session.run({ pixel_values: new ort.Tensor('float32', channelsFirst, [2, 3, height, width]) });
  await session.release();
  return { graph, bytes, ours, theirs: results.logits!.data as Float32Array };
}
