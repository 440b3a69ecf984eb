import { join } from 'node:path';
import { exportSavedModel } from '../engine/savedModel';
import { tf } from '../tensor/tf';
import { weightsOf } from '../train/trained';
import { writeFileAtomic } from '../util/files';
import { newFolder } from '../util/folders';
import { writeTensors } from '../weights/tensorFiles';
import { writeTorchFile } from '../weights/torchWriter';
import { type Exportable, metadataOf } from './exportable';
import { graphModelOf, type Int8, int8Of, onnxOf, precisionsOf } from './graphs';
import { hubConfig, modelCard, preprocessorConfig } from './huggingFace';
import { encodeOnnx } from './onnx/graph';

interface Format {
  about: string;
  /** Writes its files into an empty folder. */
  write(source: Exportable, folder: string, options: ExportOptions): void | Promise<void>;
}

export interface ExportOptions {
  /** ONNX's operator set. */
  opset?: number;
  /** With ONNX: the matrices in 8 bits. */
  int8?: Int8;
}

const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;

/** What a model can be written as, by name. */
export const FORMATS = {
  onnx: {
    about: 'one .onnx file',
    async write(source, folder, { opset, int8 }) {
      const bytes = int8 ? await int8Of(source, int8, opset) : encodeOnnx(onnxOf(source, { opset }));
      writeFileAtomic(join(folder, 'model.onnx'), bytes);
    },
  },
  hf: {
    about: 'the folder that transformers.js and the Hugging Face hub expect',
    async write(source, folder, { opset }) {
      const { fp32, fp16, q8 } = await precisionsOf(source, 'weights', opset);
      const files: Record<string, string | Uint8Array> = {
        'README.md': modelCard(source),
        'config.json': json(hubConfig(source)),
        'preprocessor_config.json': json(preprocessorConfig(source)),
        'onnx/model.onnx': fp32,
        'onnx/model_fp16.onnx': fp16,
        'onnx/model_quantized.onnx': q8,
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
      for (const [name, content] of Object.entries(graphModelOf(source)))
        writeFileAtomic(join(folder, name), content as string);
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
