import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Decoding, decode } from '../data/cache/decode';
import { DEFAULT_SIDE, withSide } from '../data/cache/side';
import { networkInput } from '../data/input';
import type { AugmentationOptions } from '../data/transforms/augmentation';
import { compile } from '../engine/compile/compile';
import { openEngine } from '../engine/open';
import type * as library from '../library';
import type { Image, LoadedModel, Prediction } from '../library';
import type { Model } from '../model/module';
import { type Tensor, tf } from '../tensor/tf';
import { buildModel, resolveRecipe } from '../train/recipe';
import { evalStep } from '../train/step';
import { UserError } from '../util/errors';
import { counted } from '../util/text';
import { importWeights, weightsFor } from '../weights/import';
import { placeTensors } from '../weights/place';
import type { HostTensor } from '../weights/safetensors';
import { openRun, type Run } from './store';

/** What a network's weights were trained on, as far as it is known. */
interface Background {
  classes?: readonly string[];
  /** How images are prepared: what is not random in it. */
  augment?: AugmentationOptions;
  decode?: Decoding;
  /** The side at which a dataset keeps its images. */
  side?: number;
}

export const loadModel: typeof library.loadModel = async (file, { classes, ...options } = {}) => {
  const { model, tensors, source } = await importWeights(file, options);
  const run = runOf(file);
  const known = run === undefined ? ofFile(source.metadata) : backgroundOf(run);
  return serve(model, tensors, { ...known, ...(classes && { classes }) });
};

export const loadRun: typeof library.loadRun = async folder => {
  const run = openRun('.', folder);
  const { recipe, dataset, name } = run.record;
  if (!existsSync(run.lastCheckpoint)) throw new UserError(`The run '${name}' has no checkpoint yet.`);
  const model = buildModel(resolveRecipe(recipe), dataset.classes.length);
  const { tensors } = await weightsFor(run.lastCheckpoint, model);
  return serve(model, tensors, backgroundOf(run));
};

/** The run whose folder a checkpoint lies in. */
function runOf(file: string): Run | undefined {
  const folder = dirname(file);
  return existsSync(join(folder, 'run.json')) ? openRun('.', folder) : undefined;
}

function backgroundOf({ record: { recipe, dataset, dataOptions } }: Run): Background {
  return { classes: dataset.classes, augment: recipe.augment, decode: dataOptions.decode, side: dataOptions.side };
}

/** Class names that a safetensors file carries: `classes`, a JSON array. */
function ofFile({ classes }: Record<string, string>): Background {
  try {
    const names: unknown = JSON.parse(classes ?? 'null');
    return Array.isArray(names) && names.every(name => typeof name === 'string') ? { classes: names } : {};
  } catch {
    return {};
  }
}

async function serve(model: Model, tensors: Record<string, HostTensor>, known: Background): Promise<LoadedModel> {
  const { name, inputSize, numClasses } = model;
  const { classes = [], augment, decode: decoding } = known;
  if (classes.length > numClasses)
    throw new UserError(
      `${name} has ${counted(numClasses, 'output')}, but there are names of ${counted(classes.length, 'class', 'classes')}.`,
    );
  await openEngine();
  const [params, buffers] = [model.params, model.buffers].map(specs => placeTensors(specs, tensors));
  const logits = evalStep(model);
  const run = compile((images: Tensor) => logits(params!, buffers!, images), { capture: 'constant', name });
  const { side = DEFAULT_SIDE } = withSide({ side: known.side }, inputSize);
  const names = Array.from({ length: numClasses }, (_, label) => classes[label] ?? `class ${label}`);
  return {
    name,
    classes: names,
    inputSize,
    async predict(image, { top = 5 } = {}) {
      const input = networkInput(await pixelsOf(image, side, decoding), inputSize, augment);
      const probabilities = tf.tidy(() => tf.softmax(run(input)));
      const values = await probabilities.data();
      tf.dispose([input, probabilities]);
      return ranked(values, names).slice(0, top);
    },
    dispose() {
      run.dispose();
      tf.dispose([params!, buffers!]);
    },
  };
}

async function pixelsOf(image: Image, side: number, decoding?: Decoding) {
  if (typeof image !== 'string' && 'pixels' in image) return image;
  const what = typeof image === 'string' ? `'${image}'` : 'The image';
  try {
    return await decode(typeof image === 'string' ? readFileSync(image) : image, side, decoding);
  } catch (error) {
    throw new UserError(`${what} can't be read: ${(error as Error).message}.`);
  }
}

/** The likeliest first; of equal ones, the earlier. */
function ranked(probabilities: ArrayLike<number>, names: readonly string[]): Prediction[] {
  return Array.from(probabilities, (probability, label) => ({ name: names[label]!, label, probability })).sort(
    (a, b) => b.probability - a.probability || a.label - b.label,
  );
}
