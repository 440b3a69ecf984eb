import type { Decoding } from '../data/cache/decode';
import type { Augmentation } from '../data/transforms/augmentation';
import type { Weights } from '../measure/activations';
import type { Model } from '../model/module';
import { fromTorch } from '../tensor/layout';
import { tf } from '../tensor/tf';
import type { HostTensor } from '../weights/safetensors';

/** A model that can leave the lab: weights in PyTorch's names and layout, and what whoever runs it has to know. */
export interface Exportable {
  /** What it is called: a run's name, or the network's. */
  name: string;
  model: Model;
  tensors: Record<string, HostTensor>;
  /** Names of its outputs, in order. */
  classes: readonly string[];
  /** What happens to images before the network, as far as it is not random. */
  augment: Pick<Augmentation, 'mean' | 'std' | 'interpolation' | 'centerCrop'>;
  /** How its images were read from their files: the decoder, and the shorter side at which they were kept. */
  reading: { decode?: Decoding; side?: number };
  /** The run that it comes from. */
  run?: Provenance;
}

export interface Provenance {
  name: string;
  /** What it was trained on, in one line. */
  data: string;
  /** Fractions of the test images, of which there are `images`. */
  result: { top1: number; top5: number; images: number } | null;
  /** The command that trains it again, and the sha256 of the weights that it then ends with. */
  command: string;
  weights: string | null;
  epochs: number;
}

/** The weights as tensors of the engine. The caller disposes. */
export function weightsOf({ model, tensors }: Pick<Exportable, 'model' | 'tensors'>): Weights {
  const read = (specs: Model['params']) =>
    Object.fromEntries(
      specs.map(spec => [
        spec.name,
        tf.tensor(fromTorch(spec, tensors[spec.name]!.data as Float32Array), [...spec.shape], 'float32'),
      ]),
    );
  return { params: read(model.params), buffers: read(model.buffers) };
}

/** What a file of weights or a graph says of itself, as text by key. */
export function metadataOf({ name, model, classes, augment, run }: Exportable): Record<string, string> {
  return {
    name,
    model: model.name,
    config: JSON.stringify(model.config),
    classes: JSON.stringify(classes),
    preprocessing: JSON.stringify({ size: model.inputSize, ...augment }),
    ...(run && { run: run.name, ...(run.weights && { weights: run.weights }) }),
  };
}
