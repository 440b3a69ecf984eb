import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Exportable } from '../../export/exportable';
import { architectureOf, createModel, MODELS, parseSize } from '../../model/registry';
import { rerunCommand } from '../../report/commands';
import { portableRecord } from '../../runs/portable';
import { openRun, RUNS, type Run } from '../../runs/store';
import { trainedFile, trainedRun } from '../../runs/trained';
import { untrained } from '../../train/trained';
import { UserError } from '../../util/errors';

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
  const file = weightsIn(name);
  if (file !== undefined) return trainedFile(file, { size: side });
  if (fresh && MODELS.includes(name)) {
    const model = createModel(name, { numClasses: architectureOf(name).classes, size: side ?? 224 });
    return untrained(model);
  }
  if (fresh)
    throw new UserError(
      `'${name}' is no run in ${runs}, no file of weights and no model: \`npm run runs\` lists runs; models are ${MODELS.join(', ')}.`,
    );
  return ofRun(openRun(runs, name)); // says which runs there are
}

/** The file of weights that a name means: it may be that of a folder that `export --to=hf` wrote. */
function weightsIn(name: string): string | undefined {
  const exported = join(name, 'model.safetensors');
  if (existsSync(exported)) return exported;
  return /\.(safetensors|pth|pt)$/.test(name) || existsSync(name) ? name : undefined;
}

async function ofRun(run: Run): Promise<Exportable> {
  const { recipe, dataset, result, name } = run.record;
  const shared = portableRecord(run.record);
  return {
    ...(await trainedRun(run)),
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
