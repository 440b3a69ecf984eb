import { type Buffers, initialise, type Model, type Params } from '../model/module';
import { random } from '../util/random';
import type { FoundWeights } from '../weights/fit';
import { weightsFor } from '../weights/import';
import { placeTensors } from '../weights/place';

/** Weights that a training begins with, and what is known of their file. */
export interface InitialWeights extends Pick<FoundWeights, 'fresh' | 'map'> {
  params: Params;
  buffers: Buffers;
}

/**
 * Weights of a file of any kind that `weightsFor` reads. A head for another number of classes is initialised by the seed, as `model.init` would,
 * and named. Throws UserError where anything else is missing or doesn't fit. The caller disposes.
 */
export async function initialWeights(path: string, model: Model, seed: string | number): Promise<InitialWeights> {
  const { tensors, fresh, map } = await weightsFor(path, model);
  const given = model.params.filter(({ name }) => !fresh.includes(name));
  const initialised = initialise(
    model.params.filter(({ name }) => fresh.includes(name)),
    random(seed).fork('init'),
  );
  const placed = { ...placeTensors(given, tensors), ...initialised };
  return {
    params: Object.fromEntries(model.params.map(({ name }) => [name, placed[name]])),
    buffers: placeTensors(model.buffers, tensors),
    fresh,
    map,
  };
}
