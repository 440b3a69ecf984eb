import { join } from 'node:path';
import { exportSavedModel } from '../engine/savedModel';
import { tf } from '../tensor/tf';
import { writeFileAtomic } from '../util/files';
import { newFolder } from '../util/folders';
import { writeTensors } from '../weights/safetensors';
import { writeTorchFile } from '../weights/torchWriter';
import { type Exportable, metadataOf, weightsOf } from './exportable';
import { hubConfig, modelCard, preprocessorConfig } from './huggingFace';
import { inferenceGraph } from './inference';
import { toOnnx } from './onnx/convert';
import { encodeOnnx, type OnnxGraph } from './onnx/graph';
import { inHalf } from './onnx/half';
import { quantizeDynamically } from './onnx/quantize';
import { toGraphModel } from './tfjs';

interface Format {
  about: string;
  /** Writes its files into an empty folder. */
  write(source: Exportable, folder: string, options: ExportOptions): void | Promise<void>;
}

export interface ExportOptions {
  /** ONNX's operator set. */
  opset?: number;
}

/** The newest operator set that all of today's runtimes read: it has Gelu. */
export const OPSET = 20;

/** The network as ONNX, with what a runtime can't know of it as metadata. */
function onnxOf(
  source: Exportable,
  { opset = OPSET, convolutions }: ExportOptions & { convolutions?: boolean },
): OnnxGraph {
  const weights = weightsOf(source);
  try {
    const graph = inferenceGraph(source.model, weights, 'fused');
    return { ...toOnnx(graph, source.model.name, { opset, convolutions }), metadata: metadataOf(source) };
  } finally {
    tf.dispose([weights.params, weights.buffers]);
  }
}

const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;

/** What a model can be written as, by name. */
export const FORMATS = {
  onnx: {
    about: 'one .onnx file',
    write(source, folder, options) {
      writeFileAtomic(join(folder, 'model.onnx'), encodeOnnx(onnxOf(source, options)));
    },
  },
  hf: {
    about: 'the folder that transformers.js and the Hugging Face hub expect',
    write(source, folder, options) {
      const graph = onnxOf(source, options);
      const files: Record<string, string | Uint8Array> = {
        'README.md': modelCard(source),
        'config.json': json(hubConfig(source)),
        'preprocessor_config.json': json(preprocessorConfig(source)),
        'onnx/model.onnx': encodeOnnx(graph),
        'onnx/model_fp16.onnx': encodeOnnx(inHalf(graph)),
        'onnx/model_quantized.onnx': encodeOnnx(
          quantizeDynamically(onnxOf(source, { ...options, convolutions: false })),
        ),
      };
      for (const [name, content] of Object.entries(files)) writeFileAtomic(join(folder, name), content);
      FORMATS.safetensors.write(source, folder);
    },
  },
  safetensors: {
    about: "weights under the official code's names",
    write(source, folder) {
      writeTensors(join(folder, 'model.safetensors'), {
        tensors: source.tensors,
        metadata: { format: 'pt', ...metadataOf(source) },
      });
    },
  },
  pth: {
    about: 'the same weights as torch.load reads them',
    write: (source, folder) => writeTorchFile(join(folder, 'model.pth'), source.tensors),
  },
  savedmodel: {
    about: "a SavedModel, for Python's TensorFlow",
    write(source, folder) {
      const { model } = source;
      const { params, buffers } = weightsOf(source);
      try {
        exportSavedModel(
          folder,
          ({ images }) => ({ logits: model.forward(images!, params, buffers, { train: false }).logits }),
          { images: { shape: [-1, ...model.inputSize, 3], dtype: 'float32' } },
        );
      } finally {
        tf.dispose([params, buffers]);
      }
    },
  },
  tfjs: {
    about: 'a graph model, for plain TensorFlow.js',
    write(source, folder) {
      const weights = weightsOf(source);
      try {
        const files = toGraphModel(inferenceGraph(source.model, weights, 'stock'), metadataOf(source));
        for (const [name, content] of Object.entries(files)) writeFileAtomic(join(folder, name), content as string);
      } finally {
        tf.dispose([weights.params, weights.buffers]);
      }
    },
  },
} satisfies Record<string, Format>;

export type FormatName = keyof typeof FORMATS;

/** Writes a model into a new or empty folder, whole or not at all. Throws UserError where the folder has something in it. */
export async function exportModel(
  source: Exportable,
  format: FormatName,
  dir: string,
  options: ExportOptions = {},
): Promise<void> {
  const { folder, keep, discard } = newFolder(dir, 'an export');
  try {
    await (FORMATS[format] as Format).write(source, folder, options);
    keep();
  } finally {
    discard();
  }
}
