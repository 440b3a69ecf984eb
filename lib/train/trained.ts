import { z } from 'zod';
import { DECODINGS, type Decoding } from '../data/decodings';
import type { Preparation } from '../data/transforms/augment';
import { parseAugmentation } from '../data/transforms/augmentation';
import type { Buffers, Model, Params } from '../model/module';
import { fromTorch, torchShape, toTorch } from '../tensor/layout';
import { tf } from '../tensor/tf';
import { UserError } from '../util/errors';
import { counted } from '../util/text';
import type { HostTensor } from '../weights/safetensors';

/** A network with weights in PyTorch's names and layout, and what whoever asks it of images has to know. */
export interface Trained {
  /** What it is called: a run's name, or the network's. */
  name: string;
  model: Model;
  tensors: Record<string, HostTensor>;
  /** Names of its outputs, in order. */
  classes: readonly string[];
  /** What happens to images before the network, as far as it is not random. */
  augment: Preparation;
  /** How its images were read from their files: the decoder, and the shorter side at which they were kept. */
  reading: Reading;
}

export interface Reading {
  decode?: Decoding;
  side?: number;
}

/** The weights as tensors of the engine. The caller disposes. */
export function weightsOf({ model, tensors }: Pick<Trained, 'model' | 'tensors'>): {
  params: Params;
  buffers: Buffers;
} {
  const read = (specs: Model['params']) =>
    Object.fromEntries(
      specs.map(spec => [
        spec.name,
        tf.tensor(fromTorch(spec, tensors[spec.name]!.data as Float32Array), [...spec.shape], 'float32'),
      ]),
    );
  return { params: read(model.params), buffers: read(model.buffers) };
}

/** Imported weights with what is known of their training; `classes`, where given, names the outputs. Throws UserError for too many names. */
export function trainedFrom(
  { model, tensors }: Pick<Trained, 'model' | 'tensors'>,
  known: Pick<Trained, 'augment' | 'reading'> & { classes?: readonly string[] },
  classes = known.classes,
): Trained {
  return { name: model.name, model, tensors, ...known, classes: namesOf(model, classes) };
}

/** A network with weights as they are initialised from seed 0. Needs an open engine. */
export const untrained = (model: Model): Trained => ({
  name: model.name,
  model,
  tensors: freshTensors(model),
  classes: namesOf(model),
  augment: parseAugmentation(),
  reading: {},
});

function freshTensors(model: Model): Record<string, HostTensor> {
  const { params, buffers } = model.init(0);
  const values = { ...params, ...buffers };
  return Object.fromEntries(
    [...model.params, ...model.buffers].map(spec => {
      const tensor = values[spec.name]!;
      const data = toTorch(spec, tensor.dataSync() as Float32Array);
      tensor.dispose();
      return [spec.name, { dtype: 'F32', shape: torchShape(spec), data }];
    }),
  );
}

/** A name for each output, numbers where there are too few. Throws UserError where there are too many. */
export function namesOf({ name, numClasses }: Model, names: readonly string[] = []): string[] {
  if (names.length > numClasses)
    throw new UserError(
      `${name} has ${counted(numClasses, 'output')}, but there are names of ${counted(names.length, 'class', 'classes')}.`,
    );
  return Array.from({ length: numClasses }, (_, label) => names[label] ?? `class ${label}`);
}

/** What a file of weights says of itself, as text by key; `describedBy` reads it again. */
export function descriptionOf({ name, model, classes, augment, reading }: Trained): Record<string, string> {
  const { mean, std, interpolation, centerCrop } = augment;
  return {
    name,
    model: model.name,
    config: JSON.stringify(model.config),
    classes: JSON.stringify(classes),
    preprocessing: JSON.stringify({ size: model.inputSize, mean, std, interpolation, centerCrop, ...reading }),
  };
}

const rgb = z.tuple([z.number(), z.number(), z.number()]);
const described = z.object({
  classes: z.array(z.string()).optional().catch(undefined),
  preprocessing: z
    .object({
      mean: rgb,
      std: rgb.refine(values => values.every(value => value > 0)),
      interpolation: z.enum(['bilinear', 'bicubic']),
      centerCrop: z.number().positive().max(1).nullable(),
      decode: z.enum(DECODINGS).optional(),
      side: z.int().positive().optional(),
    })
    .optional()
    .catch(undefined),
});

/** Classes and preparation as `descriptionOf` wrote them, or ImageNet's preparation where a file says nothing of it that makes sense. */
export function describedBy(metadata: Record<string, string>): Pick<Trained, 'augment' | 'reading'> & {
  classes?: readonly string[];
} {
  const { classes, preprocessing } = described.parse({
    classes: json(metadata.classes),
    preprocessing: json(metadata.preprocessing),
  });
  const { decode, side, ...augment } = preprocessing ?? {};
  return { classes, augment: parseAugmentation(augment), reading: { decode, side } };
}

function json(text = 'null'): unknown {
  try {
    return JSON.parse(text) ?? undefined;
  } catch {
    return undefined;
  }
}
