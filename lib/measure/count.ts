import { addCount, type Count, type Counts, totalCount } from '../model/count';
import type { Buffers, ForwardOptions, Model, ParamSpec, Params, Part, Tap } from '../model/module';
import { countConfig } from '../model/registry';
import { type Tensor, tf } from '../tensor/tf';

export type { Count, Counts };
export { countConfig, totalCount };

/**
 * Parameters and multiply-accumulates per image, counted from what the built model holds and does: the second of two ways. The first is the arithmetic
 * of each architecture (`countConfig`).
 */

/** Counts what the built model declares, and what it does to one image, seen through taps. Runs it once. */
export function countModel(model: Model): Counts {
  return countBuilt(model, [1, ...model.inputSize, 3]);
}

/** As `countModel`, for a block or a layer by itself and one input [h, w, c]. */
export function countPart(part: Part, inputShape: readonly [number, number, number]): Counts {
  return countBuilt(part, [1, ...inputShape]);
}

function countBuilt(built: Built, inputShape: number[]): Counts {
  const counts: Counts = new Map();
  const countOf = (module: string): Count => {
    if (!counts.has(module)) counts.set(module, { params: 0, macs: 0, normOps: 0 });
    return counts.get(module)!;
  };
  for (const { name, shape } of built.params)
    addCount(countOf(name.slice(0, Math.max(0, name.lastIndexOf('.')))), { params: product(shape) });
  const weights = new Map(built.params.map(spec => [spec.name, spec]));
  walk(built, inputShape, (layer, kind, input, output) => {
    const weight = weights.get(layer === '' ? 'weight' : `${layer}.weight`);
    if (kind === 'DotProductAttention') addCount(countOf(layer), { macs: 2 * input.shape[1]! * output.size });
    else if (kind === 'LayerNorm' || kind === 'GroupNorm') addCount(countOf(layer), { normOps: 5 * output.size });
    else if (kind === 'BatchNorm2D') addCount(countOf(layer), { normOps: 2 * output.size });
    // An output is a sum over all axes of the weight but the last, or over the kernel alone where channels don't mix.
    else if (weight?.kind === 'conv' || weight?.kind === 'linear')
      addCount(countOf(layer), { macs: output.size * product(weight.shape.slice(0, -1)) });
    else if (weight?.kind === 'depthwise')
      addCount(countOf(layer), { macs: output.size * product(weight.shape.slice(0, 2)) });
    else if (weight?.kind === 'localProp') addCount(countOf(layer), { macs: output.size });
  });
  return counts;
}

/** A `Model` or a `Part`. */
interface Built {
  readonly params: readonly ParamSpec[];
  readonly buffers: readonly ParamSpec[];
  forward(x: Tensor, params: Params, buffers: Buffers, options: ForwardOptions): unknown;
}

/** Runs a model once on zeros, weights included, for what taps see of it: names, types and shapes. */
export function walkLayers(model: Model, pictures: number, tap: Tap): void {
  walk(model, [pictures, ...model.inputSize, 3], tap);
}

function walk(built: Built, inputShape: number[], tap: Tap): void {
  tf.tidy(() => {
    const zeros = (specs: readonly ParamSpec[]) =>
      Object.fromEntries(specs.map(spec => [spec.name, tf.zeros(spec.shape)]));
    built.forward(tf.zeros(inputShape), zeros(built.params), zeros(built.buffers), { train: false, tap });
  });
}

const product = (values: readonly number[]): number => values.reduce((a, b) => a * b, 1);
