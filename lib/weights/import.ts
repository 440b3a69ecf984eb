import { distance } from 'fastest-levenshtein';
import type { Model, ParamSpec } from '../model/module';
import { createModel, MODELS } from '../model/registry';
import { torchShape } from '../tensor/layout';
import { UserError } from '../util/errors';
import { allowedNames } from '../util/suggest';
import { KEY_MAPS, type KeyMap, type KeyMapName, officialName, recogniseKeys } from './keyMaps';
import type { HostTensor } from './safetensors';
import { readStateDict, type StateDict } from './stateDict';

/** A state dict under official names, of a network that is known. */
export interface ImportedWeights extends Fitted {
  model: Model;
  map: KeyMapName;
  source: Pick<StateDict, 'format' | 'key' | 'others' | 'metadata'>;
}

export interface ImportOptions {
  /** A name of `MODELS`; left out, the one whose names and shapes fit. */
  model?: string;
  /** A name of `KEY_MAPS`; left out, the one that knows the file's keys. */
  map?: string;
  /** Which of the state dicts of a PyTorch file. */
  key?: string;
  /** Side of the images in pixels, or [height, width] (default 224): it decides no parameter of an EdgeViT. */
  size?: number | readonly [number, number];
  /** Settings of the model as `createModel` takes them, before those that the file or its key map states. */
  set?: readonly string[];
}

/**
 * Reads weights of whoever trained them: `.safetensors`, or PyTorch's `.pth` and `.pt`, of the layouts of `KEY_MAPS`. Nothing of the
 * file is executed. Throws UserError, in at most ten lines, where they fit no network of the lab.
 */
export async function importWeights(path: string, options: ImportOptions = {}): Promise<ImportedWeights> {
  const source = await readStateDict(path, options);
  const { map, tensors } = toOfficial(path, source.tensors, options.map);
  const { settings = {} } = KEY_MAPS[map] as KeyMap;
  const own = settingsOf(source.metadata);
  const build = (name: string): Model | undefined => {
    try {
      const create = (numClasses: number): Model =>
        createModel(name, { ...own, ...settings, set: options.set, numClasses, size: options.size ?? 224 });
      return create(classesOf(create(PUBLISHED_CLASSES), tensors));
    } catch (error) {
      if (error instanceof UserError && options.model === undefined) return undefined; // another model's settings
      throw error;
    }
  };
  const candidates = options.model === undefined ? MODELS : [options.model];
  if (options.model !== undefined && !(MODELS as readonly string[]).includes(options.model))
    throw new UserError(`Unknown model '${options.model}': ${allowedNames(options.model, MODELS)}.`);
  const models = candidates.flatMap(name => build(name) ?? []);
  const model = models.find(candidate => misfits(candidate, tensors).length === 0) ?? closest(models, tensors);
  if (!model) throw new UserError(`'${path}' has settings that no model has: ${JSON.stringify(own)}.`);
  return { model, map, source, ...fitWeights(path, model, tensors) };
}

/** Under official names, by a named map or the one that knows the keys. Throws UserError where none does. */
export function toOfficial(
  path: string,
  tensors: Record<string, HostTensor>,
  name?: string,
): { map: KeyMapName; tensors: Record<string, HostTensor> } {
  if (name !== undefined && !Object.hasOwn(KEY_MAPS, name))
    throw new UserError(`Unknown key map '${name}': ${allowedNames(name, Object.keys(KEY_MAPS))}.`);
  // Networks other than EdgeViT have no layout but ours.
  const map = (name as KeyMapName | undefined) ?? recogniseKeys(Object.keys(tensors)) ?? 'official';
  const renamed: Record<string, HostTensor> = {};
  for (const [key, tensor] of Object.entries(tensors)) {
    const official = officialName(map, key);
    if (Object.hasOwn(renamed, official))
      throw new UserError(`'${path}' names '${official}' twice by the key map '${map}', the second time as '${key}'.`);
    renamed[official] = tensor;
  }
  const weight = renamed['head.weight'];
  for (const [pattern, value] of (KEY_MAPS[map] as KeyMap).constant ?? []) {
    if (pattern.test('head.bias') && weight && !renamed['head.bias'])
      renamed['head.bias'] = {
        dtype: 'F32',
        shape: [weight.shape[0]!],
        data: new Float32Array(weight.shape[0]!).fill(value),
      };
  }
  return { map, tensors: renamed };
}

/** Weights in the shapes and the order of a model's parameters and buffers. */
export interface Fitted {
  tensors: Record<string, HostTensor>;
  /** Parameters that the file does not give, because it was trained for another number of classes: to be initialised. */
  fresh: readonly string[];
  /** Entries of the file that were left. */
  leftOut: readonly string[];
}

/** Not weights: PyTorch's counters and what our training checkpoints hold beside weights. */
const BESIDE = /\.num_batches_tracked$|^optimizer\.|^ema\./;

/**
 * The entries of a state dict that a model takes. A head for another number of classes is left out and named, everything else must be
 * there and fit; axes of length 1 at the end are no difference (a linear layer stored as a 1×1 convolution). Throws UserError that
 * lists what is missing, unexpected or of another shape.
 */
export function fitWeights(path: string, model: Model, tensors: Record<string, HostTensor>): Fitted {
  const head = headOf(model);
  const specs = [...model.params, ...model.buffers];
  const replaced =
    head.length > 0 &&
    head.every(name => tensors[name]) &&
    head.some(name => !fits(specOf(model, name), tensors[name]));
  const fresh = replaced ? head : [];
  const problems = misfits(model, tensors, fresh);
  if (problems.length > 0) throw new UserError(report(path, model, problems));
  const fitted = specs
    .filter(({ name }) => !fresh.includes(name))
    .map(spec => [spec.name, { ...tensors[spec.name]!, shape: torchShape(spec) } as HostTensor] as const);
  return { tensors: Object.fromEntries(fitted), fresh, leftOut: fresh };
}

/** The parameters whose shape the number of classes decides. */
export function headOf(model: Model): string[] {
  const { name, config, numClasses, inputSize } = model;
  const other = createModel(name, { ...config, numClasses: numClasses + 1, size: inputSize });
  const shapes = new Map(other.params.map(spec => [spec.name, spec.shape.join()]));
  return model.params.filter(spec => shapes.get(spec.name) !== spec.shape.join()).map(spec => spec.name);
}

const specOf = (model: Model, name: string): ParamSpec =>
  [...model.params, ...model.buffers].find(spec => spec.name === name)!;

const squeezed = (shape: readonly number[]): string => shape.join().replace(/(,1)+$/, '');

const fits = (spec: ParamSpec, tensor?: HostTensor): boolean =>
  tensor?.dtype === 'F32' && squeezed(tensor.shape) === squeezed(torchShape(spec));

interface Misfit {
  kind: 'missing' | 'unexpected' | 'shape';
  line: string;
}

function misfits(
  model: Model,
  tensors: Record<string, HostTensor>,
  except: readonly string[] = headOf(model),
): Misfit[] {
  const specs = new Map([...model.params, ...model.buffers].map(spec => [spec.name, spec]));
  const unexpected = Object.keys(tensors).filter(name => !specs.has(name) && !BESIDE.test(name));
  const problems: Misfit[] = [];
  for (const spec of specs.values()) {
    const tensor = tensors[spec.name];
    const expected = `[${torchShape(spec).join(', ')}]`;
    if (except.includes(spec.name)) continue;
    if (!tensor) problems.push({ kind: 'missing', line: `missing: '${spec.name}' ${expected}` });
    else if (!fits(spec, tensor))
      problems.push({
        kind: 'shape',
        line: `'${spec.name}' is [${tensor.shape.join(', ')}]${tensor.dtype === 'F32' ? '' : ' of integers'}, not ${expected}`,
      });
  }
  for (const name of unexpected) problems.push({ kind: 'unexpected', line: `unexpected: '${name.slice(0, 80)}'` });
  return problems;
}

/** The model whose names and shapes fit best, so that a message names few differences. */
function closest(models: readonly Model[], tensors: Record<string, HostTensor>): Model | undefined {
  const counts = models.map(model => misfits(model, tensors).length);
  return models[counts.indexOf(Math.min(...counts))];
}

/** At most ten lines. */
function report(path: string, model: Model, problems: readonly Misfit[]): string {
  const names = [...model.params, ...model.buffers].map(spec => spec.name);
  const shown = problems.slice(0, 8).map(({ kind, line }) => {
    const name = kind === 'unexpected' ? /'(.*)'/.exec(line)![1]! : undefined;
    const nearest =
      name === undefined
        ? undefined
        : names.reduce((a, b) => (distance(name, b) < distance(name, a) ? b : a), names[0]!);
    return `  ${line}${nearest === undefined ? '' : `; the nearest of ours is '${nearest}'`}`;
  });
  const more = problems.length - shown.length;
  const count = (kind: Misfit['kind']): number => problems.filter(problem => problem.kind === kind).length;
  const { name, numClasses } = model;
  return [
    `'${path}' does not fit ${name} with ${numClasses} classes: ${count('missing')} entries are missing, ${count('unexpected')} unexpected, ${count('shape')} of another shape.`,
    ...shown,
    ...(more > 0 ? [`  … and ${more} more`] : []),
  ].join('\n');
}

/** ImageNet's. */
const PUBLISHED_CLASSES = 1000;

/** The classes that a head was trained for: the first axis of what their number decides. */
function classesOf(model: Model, tensors: Record<string, HostTensor>): number {
  const stored = headOf(model).flatMap(name => tensors[name] ?? [])[0];
  return stored?.shape[0] ?? PUBLISHED_CLASSES;
}

/** The configuration that our own files carry. */
function settingsOf({ config }: Record<string, string>): Record<string, unknown> {
  if (config === undefined) return {};
  try {
    const parsed: unknown = JSON.parse(config);
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
      ? (parsed as Record<string, unknown>)
      : {};
  } catch {
    return {};
  }
}
