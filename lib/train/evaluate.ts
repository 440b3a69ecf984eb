import { setImmediate as nextTurn } from 'node:timers/promises';
import { batches } from '../data/batches';
import type { Split } from '../data/dataset';
import { type AugmentationOptions, parseAugmentation } from '../data/transforms/augmentation';
import type { Buffers, Model, Params } from '../model/module';
import { tf } from '../tensor/tf';
import { createMeter, type DetailedEvaluation } from './metrics';
import type { EvalStep } from './step';

export interface EvaluateOptions {
  batchSize: number;
  /** The training augmentation; evaluation takes what is not random in it: normalisation, interpolation, centred crop. */
  augment: AugmentationOptions;
  /** Names of the classes, by label. */
  classes: readonly string[];
  /** Threads that read images (see `batches`). */
  workers?: number;
  /** Stops between batches. */
  signal?: AbortSignal;
}

/**
 * Runs a split through the network. `step` is an `evalStep`, compiled or not. The last batch is filled up with zeros, so that
 * there is one shape to compile. Undefined when the signal stopped it.
 */
export async function evaluate(
  step: EvalStep,
  model: Model,
  params: Params,
  buffers: Buffers,
  split: Split,
  options: EvaluateOptions,
): Promise<DetailedEvaluation | undefined> {
  const { batchSize, classes, workers, signal } = options;
  const [height, width] = model.inputSize;
  const meter = createMeter(classes, model.numClasses);
  const pixels = height * width * 3;
  for await (const batch of batches(split, {
    batchSize,
    size: model.inputSize,
    augment: withoutRandomness(options.augment),
    workers,
  })) {
    await nextTurn(); // signals are delivered between turns
    if (signal?.aborted) return undefined;
    const filled = batch.count === batchSize ? batch.images : new Float32Array(batchSize * pixels);
    if (filled !== batch.images) filled.set(batch.images);
    const images = tf.tensor4d(filled, [batchSize, height, width, 3]);
    const logits = step(params, buffers, images);
    meter.add(logits.dataSync() as Float32Array, batch.labels);
    tf.dispose([images, logits]);
  }
  return meter.result();
}

/** What of an augmentation also happens to an image that is looked at, not learned from. */
export function withoutRandomness(augment: AugmentationOptions): AugmentationOptions {
  const { mean, std, interpolation, centerCrop } = parseAugmentation(augment);
  return { mean, std, interpolation, centerCrop };
}
