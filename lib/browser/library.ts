import * as tensorflow from '@tensorflow/tfjs';
import { DEFAULT_SIDE, withSide } from '../data/cache/side';
import type { Picture } from '../data/dataset';
import type * as library from '../library';
import type { Image } from '../library';
import { provideTf } from '../tensor/tf';
import { libraryModel, openPredictor } from '../train/predictor';
import { describedBy, type Trained, trainedFrom } from '../train/trained';
import { UserError } from '../util/errors';
import { dictOf, looksLikePickle } from '../weights/dicts';
import { importDict } from '../weights/fit';
import { decodeTensors } from '../weights/safetensors';
import { readPhoto } from './photo';

/*
 * What `import … from 'edgevit-lab'` offers in a bundle for the browser: the same functions, of addresses instead of paths, on TensorFlow.js
 * and the backend that the page has chosen. Types: lib/library.d.ts.
 */

export const loadModel: typeof library.loadModel = async (address, { classes, ...options } = {}) => {
  const bytes = new Uint8Array(await (await download(address)).arrayBuffer());
  if (looksLikePickle(bytes))
    throw new UserError(
      `'${address}' is a PyTorch file, which a page does not read: \`npm run import\` or \`export --to=safetensors\` converts it.`,
    );
  await tensorflow.ready();
  provideTf(tensorflow);
  const imported = importDict(address, dictOf(address, decodeTensors(address, bytes), options.key), options);
  const trained = trainedFrom(imported, describedBy(imported.source.metadata), classes);
  return libraryModel(trained, openPredictor(trained), image => readImage(image, trained));
};

export const loadRun: typeof library.loadRun = async folder => {
  throw new UserError(
    `loadRun reads the run's folder '${folder}', which a page cannot: load what \`npm run export -- RUN --to=safetensors\` writes by loadModel.`,
  );
};

async function download(address: string): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address);
  } catch (error) {
    throw new UserError(`'${address}' cannot be fetched: ${(error as Error).message}.`);
  }
  if (!response.ok) throw new UserError(`'${address}' cannot be fetched: the server answers ${response.status}.`);
  return response;
}

async function readImage(image: Image, { model, reading }: Trained): Promise<Picture> {
  if (typeof image !== 'string' && 'pixels' in image) return image;
  const { side = DEFAULT_SIDE } = withSide({ side: reading.side }, model.inputSize);
  const what = typeof image === 'string' ? `'${image}'` : 'The image';
  const file =
    typeof image === 'string'
      ? await (await download(image)).blob()
      : image instanceof Blob
        ? image
        : new Blob([new Uint8Array(image)]);
  try {
    return await readPhoto(file, side);
  } catch {
    throw new UserError(`${what} is no image that this browser can read: try a JPEG or a PNG.`);
  }
}
