import { logitsAndAttention } from '../measure/attention';
import { tf } from '../tensor/tf';
import { weightsOf } from '../train/trained';
import { drawnImages } from './drawnImages';
import { type Exportable, metadataOf } from './exportable';
import { inferenceGraph, type Outputs } from './inference';
import { calibrate, gramsOf, type Images } from './onnx/calibrate';
import { type ConvertOptions, toOnnx } from './onnx/convert';
import { encodeOnnx, type OnnxGraph } from './onnx/graph';
import { inHalf } from './onnx/half';
import { quantizeDynamically, quantizeStatically } from './onnx/quantize';
import { quantizeWeights } from './onnx/quantizeWeights';
import { type GraphModel, toGraphModel } from './tfjs';

/** The newest operator set that all of today's runtimes read: it has Gelu. */
export const OPSET = 20;

/** The network as ONNX, with what a runtime can't know of it as metadata. */
export function onnxOf(
  source: Exportable,
  { opset = OPSET, ...options }: Partial<ConvertOptions> = {},
  computed?: Outputs,
): OnnxGraph {
  const weights = weightsOf(source);
  try {
    const graph = inferenceGraph(source.model, weights, 'fused', computed);
    return { ...toOnnx(graph, source.model.name, { opset, ...options }), metadata: metadataOf(source) };
  } finally {
    tf.dispose([weights.params, weights.buffers]);
  }
}

/**
 * How matrices come to 8 bits: alone ('weights'), or with what they multiply, by the range that this has in each call ('dynamic') or one found
 * before, in images ('static').
 */
export type Int8 = { how: 'weights' | 'dynamic' } | { how: 'static'; images: Images };

/** An `.onnx` file whose matrices are in 8 bits. Throws UserError where images are needed and ONNX Runtime, a development dependency, is missing. */
export async function int8Of(source: Exportable, int8: Int8, opset?: number): Promise<Uint8Array> {
  const graph = onnxOf(source, { opset, convolutions: false });
  switch (int8.how) {
    case 'weights':
      return encodeOnnx(quantizeWeights(graph, await gramsOf(graph, drawnImages(source))));
    case 'dynamic':
      return encodeOnnx(quantizeDynamically(graph));
    case 'static':
      return encodeOnnx(quantizeStatically(graph, await calibrate(graph, int8.images)));
  }
}

/**
 * `.onnx` files of one network, by transformers.js's names of their precisions. The one in 8 bits is the most exact ('weights') or, for CPUs, the
 * fastest ('dynamic'). Throws as `int8Of`.
 */
export async function precisionsOf(
  source: Exportable,
  how: 'weights' | 'dynamic',
  opset?: number,
): Promise<Record<'fp32' | 'fp16' | 'q8', Uint8Array>> {
  const graph = onnxOf(source, { opset });
  return { fp32: encodeOnnx(graph), fp16: encodeOnnx(inHalf(graph)), q8: await int8Of(source, { how }, opset) };
}

/** An `.onnx` file that gives, beside `logits`, what each of the named blocks' delegates attend to (`logitsAndAttention`), by the block's name. */
export const onnxWithAttention = (source: Exportable, blocks: readonly string[]): Uint8Array =>
  encodeOnnx(onnxOf(source, { outputs: ['logits', ...blocks] }, logitsAndAttention));

/** The network as plain TensorFlow.js loads it. */
export function graphModelOf(source: Exportable): GraphModel {
  const weights = weightsOf(source);
  try {
    return toGraphModel(inferenceGraph(source.model, weights, 'stock'), metadataOf(source));
  } finally {
    tf.dispose([weights.params, weights.buffers]);
  }
}
