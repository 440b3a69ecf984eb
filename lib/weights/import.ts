import type { Model } from '../model/module';
import {
  type FoundWeights,
  fitWeights,
  type ImportedWeights,
  type ImportOptions,
  importDict,
  officialDict,
  type ReadOptions,
} from './fit';
import { readStateDict } from './stateDict';

/**
 * Reads weights of whoever trained them: `.safetensors`, or PyTorch's `.pth` and `.pt`, of the layouts of `KEY_MAPS`. Nothing of the
 * file is executed. Throws UserError, in at most ten lines, where they fit no network of the lab.
 */
export async function importWeights(path: string, options: ImportOptions = {}): Promise<ImportedWeights> {
  return importDict(path, await readStateDict(path, options), options);
}

/** Reads weights for a model that is known. A head for another number of classes is left out and named. Throws as `importWeights`. */
export async function weightsFor(path: string, model: Model, options: ReadOptions = {}): Promise<FoundWeights> {
  const { tensors, map, source } = officialDict(path, await readStateDict(path, options), options);
  return { map, source, ...fitWeights(path, model, tensors) };
}
