import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseAugmentation } from '../../data/transforms/augmentation';
import type { Exportable } from '../../export/exportable';
import type { Model } from '../../model/module';
import { architectureOf, createModel, MODELS, parseSize } from '../../model/registry';
import { rerunCommand } from '../../report/commands';
import { portableRecord } from '../../runs/portable';
import { openRun, RUNS, type Run } from '../../runs/store';
import { torchShape, toTorch } from '../../tensor/layout';
import { buildModel } from '../../train/recipe';
import { UserError } from '../../util/errors';
import { fitWeights, importWeights } from '../../weights/import';
import { type HostTensor, readTensors } from '../../weights/safetensors';

export interface SourceOptions {
  runs?: string;
  /** Of a model or a file, which say nothing of images. */
  size?: string;
}

/**
 * A trained model by a run's name or folder or by a file of weights; or, where `fresh`, a network by its name with weights as they are
 * initialised. Throws UserError where there is none. Fresh weights need an open engine.
 */
export async function openSource(name: string, options: SourceOptions = {}, fresh = false): Promise<Exportable> {
  const { runs = RUNS, size } = options;
  if ([join(runs, name), name].some(path => existsSync(join(path, 'run.json')))) return ofRun(openRun(runs, name));
  const side = size === undefined ? undefined : parseSize(size);
  const augment = parseAugmentation();
  if (/\.(safetensors|pth|pt)$/.test(name) || existsSync(name)) {
    const { model, tensors, source } = await importWeights(name, { size: side });
    return { name: model.name, model, tensors, augment, reading: {}, classes: classesIn(source.metadata, model) };
  }
  if (fresh && MODELS.includes(name)) {
    const model = createModel(name, { numClasses: architectureOf(name).classes, size: side ?? 224 });
    return { name, model, tensors: freshTensors(model), augment, reading: {}, classes: numbered(model) };
  }
  if (fresh)
    throw new UserError(
      `'${name}' is no run in ${runs}, no file of weights and no model: \`npm run runs\` lists runs; models are ${MODELS.join(', ')}.`,
    );
  return ofRun(openRun(runs, name)); // says which runs there are
}

/** A run's last weights: those that were judged, which is their moving average where the run has one. */
function ofRun(run: Run): Exportable {
  const { recipe, dataset, dataOptions, result, name } = run.record;
  const shared = portableRecord(run.record);
  if (!existsSync(run.lastCheckpoint))
    throw new UserError(`The run '${name}' holds no checkpoint yet: let it end its first epoch.`);
  const model = buildModel(recipe, dataset.classes.length);
  const { tensors } = readTensors(run.lastCheckpoint);
  const own = Object.fromEntries(
    Object.entries(tensors)
      .filter(([key]) => !/^(optimizer|ema)\./.test(key))
      .map(([key, value]) => [key, tensors[`ema.${key}`] ?? value]),
  );
  const extra = Array.from(
    { length: model.numClasses - dataset.classes.length },
    (_, i) => `output ${dataset.classes.length + i}`,
  );
  return {
    name,
    model,
    tensors: fitWeights(run.lastCheckpoint, model, own).tensors,
    classes: [...dataset.classes, ...extra],
    augment: parseAugmentation(recipe.augment),
    reading: { decode: dataOptions.decode, side: dataOptions.side },
    run: {
      name,
      data: shared.dataset.description,
      result: result && { top1: result.top1, top5: result.top5, images: dataset.test },
      command: rerunCommand({ ...shared, init: shared.init && { ...shared.init, path: basename(shared.init.path) } }),
      weights: result?.weights ?? null,
      epochs: recipe.epochs,
    },
  };
}

const numbered = ({ numClasses }: Model): string[] => Array.from({ length: numClasses }, (_, i) => `class ${i}`);

/** Names that our own exports carry. */
function classesIn({ classes }: Record<string, string>, model: Model): string[] {
  try {
    const names: unknown = JSON.parse(classes ?? '');
    if (Array.isArray(names) && names.length === model.numClasses && names.every(name => typeof name === 'string'))
      return names as string[];
  } catch {}
  return numbered(model);
}

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
