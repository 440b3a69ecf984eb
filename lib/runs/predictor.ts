import { readFileSync } from 'node:fs';
import { decode } from '../data/cache/decode';
import { DEFAULT_SIDE, withSide } from '../data/cache/side';
import type { Picture } from '../data/dataset';
import { compile } from '../engine/compile/compile';
import { openEngine } from '../engine/open';
import type * as library from '../library';
import type { Image, LoadedModel } from '../library';
import { libraryModel, openPredictor, type Predictor } from '../train/predictor';
import type { Trained } from '../train/trained';
import { UserError } from '../util/errors';
import { openRun } from './store';
import { trainedFile, trainedRun } from './trained';

export const loadModel: typeof library.loadModel = async (file, options) => serve(await trainedFile(file, options));

export const loadRun: typeof library.loadRun = async folder => serve(await trainedRun(openRun('.', folder)));

async function serve(trained: Trained): Promise<LoadedModel> {
  await openEngine();
  return libraryModel(trained, compiledPredictor(trained), image => readImage(image, trained));
}

/** A model that is asked about single images, as a graph with its weights as constants. Needs an open engine. */
export function compiledPredictor(trained: Trained): Predictor {
  return openPredictor(trained, (logits, name) => compile(logits, { capture: 'constant', name }));
}

/** An image as a dataset's are read for this model. Throws UserError for what is none. */
export async function readImage(image: Image, { model, reading }: Trained): Promise<Picture> {
  if (typeof image !== 'string' && 'pixels' in image) return image;
  const { side = DEFAULT_SIDE } = withSide({ side: reading.side }, model.inputSize);
  try {
    return await decode(await bytesOf(image), side, reading.decode);
  } catch (error) {
    const what = typeof image === 'string' ? `'${image}'` : 'The image';
    throw new UserError(`${what} can't be read: ${(error as Error).message}.`);
  }
}

async function bytesOf(image: string | Blob | Uint8Array): Promise<Uint8Array> {
  if (typeof image === 'string') return readFileSync(image);
  return image instanceof Blob ? new Uint8Array(await image.arrayBuffer()) : image;
}
