import { distance } from 'fastest-levenshtein';
import { ABLATIONS, type Ablation } from '../model/config';
import type { Model, ParamSpec } from '../model/module';
import { architectureOf, createModel, headOf, MODELS } from '../model/registry';
import { torchShape } from '../tensor/layout';
import { UserError } from '../util/errors';
import { allowedNames, nearest } from '../util/suggest';
import { counted, printable } from '../util/text';
import type { StateDict } from './dicts';
import { KEY_MAPS, type KeyMap, type KeyMapName, officialName, recogniseKeys } from './keyMaps';
import type { HostTensor } from './safetensors';

/** A file's entries that a model takes, and where they come from. */
export interface FoundWeights extends Fitted {
  map: KeyMapName;
  source: Pick<StateDict, 'format' | 'key' | 'others' | 'metadata'>;
}

/** The same, of a network that the file tells of. */
export interface ImportedWeights extends FoundWeights {
  model: Model;
  /** Settings of the model that the file or its key map states and that are not the published ones. */
  settings: Readonly<Record<string, unknown>>;
}

export interface ReadOptions {
  /** A name of `KEY_MAPS`; left out, the one that knows the file's keys. */
  map?: string;
  /** Which of the state dicts of a file. */
  key?: string;
}

export interface ImportOptions extends ReadOptions {
  /** A name of `MODELS`; left out, the one whose names and shapes fit. */
  model?: string;
  /** Side of the images in pixels, or [height, width] (default: what the file says, or 224). It decides no parameter of an EdgeViT. */
  size?: number | readonly [number, number];
  /** Settings of the model as `createModel` takes them, before those that the file or its key map states; so are an ablation's. */
  set?: readonly string[];
  ablation?: string;
}

/** The network that a state dict fits, and its entries under official names. Throws UserError, in at most ten lines, where they fit no network of the lab. */
export function importDict(path: string, dict: StateDict, options: ImportOptions = {}): ImportedWeights {
  const { model: name, ablation, set } = options;
  const { tensors, map, source } = officialDict(path, dict, options);
  const own = describedModel(source.metadata);
  const chosen = Object.keys(ablation === undefined ? {} : (ABLATIONS[ablation as Ablation] ?? {}));
  const stated = Object.entries({ ...own.settings, ...(KEY_MAPS[map] as KeyMap).settings });
  const settings = Object.fromEntries(stated.filter(([key]) => !chosen.includes(key)));
  const refusals = new Map<string, UserError>();
  const build = (candidate: string): Model | undefined => {
    try {
      const size = options.size ?? own.size ?? 224;
      const create = (numClasses: number): Model =>
        createModel(candidate, { ...settings, set, ablation, numClasses, size });
      return create(classesOf(create(PUBLISHED_CLASSES), tensors));
    } catch (error) {
      if (!(error instanceof UserError) || name !== undefined) throw error;
      refusals.set(candidate, error); // another model's settings
      return undefined;
    }
  };
  if (name !== undefined && !MODELS.includes(name))
    throw new UserError(`Unknown model '${name}': ${allowedNames(name, MODELS)}`);
  const models = (name === undefined ? MODELS : [name]).flatMap(candidate => build(candidate) ?? []);
  const model = models.find(candidate => misfits(candidate, tensors).length === 0) ?? closest(models, tensors);
  const refusal = refusals.get(own.name ?? MODELS[0]!);
  if (!model && refusal) throw new UserError(`'${path}' fits no network: ${refusal.message}`);
  if (!model)
    throw new UserError(`'${path}' has settings that no model has: ${JSON.stringify(own.settings).slice(0, 300)}.`);
  const { published } = architectureOf(model.name);
  const unusual = Object.entries(settings).filter(
    ([key, value]) => JSON.stringify(value) !== JSON.stringify(published[key]),
  );
  return { model, settings: Object.fromEntries(unusual), map, source, ...fitWeights(path, model, tensors) };
}

/** A state dict under official names, and what else is known of it. */
export function officialDict(
  path: string,
  { tensors, ...source }: StateDict,
  options: ReadOptions = {},
): Pick<FoundWeights, 'tensors' | 'map' | 'source'> {
  return { source, ...toOfficial(path, tensors, options.map) };
}

/** Under official names, by a named map or the one that knows the keys. Throws UserError where none does. */
export function toOfficial(
  path: string,
  tensors: Record<string, HostTensor>,
  name?: string,
): { map: KeyMapName; tensors: Record<string, HostTensor> } {
  if (name !== undefined && !Object.hasOwn(KEY_MAPS, name))
    throw new UserError(`Unknown key map '${name}': ${allowedNames(name, Object.keys(KEY_MAPS))}`);
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

/** Weights in the shapes and the order of a model's parameters and buffers, and what the file's batch norms have counted. */
export interface Fitted {
  tensors: Record<string, HostTensor>;
  /** The head, whose entries were left because they are for another number of classes: to be initialised. */
  fresh: readonly string[];
}

/** PyTorch's counter of a batch norm's steps. */
const COUNTER = 'num_batches_tracked';
/** Not weights: counters, and what our training checkpoints hold beside weights. */
const BESIDE = /\.num_batches_tracked$|^optimizer\./;

/**
 * The entries of a state dict that a model takes. A head for another number of classes is left out and named, everything else must be
 * there and fit; axes of length 1 at the end are no difference (a linear layer stored as a 1×1 convolution). Throws UserError that
 * lists what is missing, unexpected or of another shape.
 */
export function fitWeights(path: string, model: Model, tensors: Record<string, HostTensor>): Fitted {
  const head = headOf(model);
  const specs = [...model.params, ...model.buffers];
  const fresh = isForOtherClasses(model, head, tensors) ? head : [];
  const problems = misfits(model, tensors, fresh);
  if (problems.length > 0) throw new UserError(report(path, model, problems));
  const fitted = specs
    .filter(({ name }) => !fresh.includes(name))
    .map(spec => [spec.name, { ...tensors[spec.name]!, shape: torchShape(spec) } as HostTensor] as const);
  const norms = new Set(model.buffers.map(({ name }) => name.replace(/running_(mean|var)$/, COUNTER)));
  const counters = Object.entries(tensors).filter(([name]) => norms.has(name));
  return { tensors: Object.fromEntries([...fitted, ...counters]), fresh };
}

const specOf = (model: Model, name: string): ParamSpec =>
  [...model.params, ...model.buffers].find(spec => spec.name === name)!;

const squeezed = (shape: readonly number[]): string => shape.join().replace(/(,1)+$/, '');

const fits = (spec: ParamSpec, tensor?: HostTensor, fromAxis = 0): boolean =>
  tensor?.dtype === 'F32' && squeezed(tensor.shape.slice(fromAxis)) === squeezed(torchShape(spec).slice(fromAxis));

/** Whether a head's entries agree on another number of classes, and are the model's in all else: others are damaged, or of another network. */
function isForOtherClasses(model: Model, head: readonly string[], tensors: Record<string, HostTensor>): boolean {
  const [classes, ...others] = new Set(head.map(name => tensors[name]?.shape[0]));
  return (
    classes !== undefined &&
    classes !== model.numClasses &&
    others.length === 0 &&
    head.every(name => fits(specOf(model, name), tensors[name], 1))
  );
}

interface Misfit {
  kind: 'missing' | 'unexpected' | 'shape';
  name: string;
  /** How its shape differs, or which one is missing. */
  shape: string;
}

function misfits(
  model: Model,
  tensors: Record<string, HostTensor>,
  except: readonly string[] = headOf(model),
): Misfit[] {
  const specs = new Map([...model.params, ...model.buffers].map(spec => [spec.name, spec]));
  const problems: Misfit[] = [];
  for (const [name, spec] of specs) {
    const tensor = tensors[name];
    const expected = `[${torchShape(spec).join(', ')}]`;
    if (except.includes(name)) continue;
    if (!tensor) problems.push({ kind: 'missing', name, shape: expected });
    else if (!fits(spec, tensor)) {
      const given = `[${tensor.shape.join(', ')}]${tensor.dtype === 'F32' ? '' : ' of integers'}`;
      problems.push({ kind: 'shape', name, shape: `${given}, not ${expected}` });
    }
  }
  const unexpected = Object.keys(tensors).filter(name => !specs.has(name) && !BESIDE.test(name));
  return [...problems, ...unexpected.map((name): Misfit => ({ kind: 'unexpected', name, shape: '' }))];
}

/** The model whose names and shapes fit best, so that a message names few differences. By names alone it would be the smallest where all are foreign. */
function closest(models: readonly Model[], tensors: Record<string, HostTensor>): Model | undefined {
  const counts = models.map(model => misfits(model, tensors).length + foreignShapes(model, tensors));
  return models[counts.indexOf(Math.min(...counts))];
}

/** How many shapes, counted as often as they occur, either the model or the file has and the other has not. */
function foreignShapes(model: Model, tensors: Record<string, HostTensor>): number {
  const balance = new Map<string, number>();
  const add = (shape: readonly number[], count: number): void =>
    void balance.set(squeezed(shape), (balance.get(squeezed(shape)) ?? 0) + count);
  for (const spec of [...model.params, ...model.buffers]) add(torchShape(spec), 1);
  for (const { shape } of Object.values(tensors)) add(shape, -1);
  return [...balance.values()].reduce((sum, count) => sum + Math.abs(count), 0);
}

/** At most ten lines: a heading, so many misfits, and how many there are more. */
const TOLD = 8;
/** Longer names, and more of them, are compared by their beginning: a hostile file's would take minutes. */
const COMPARED = { letters: 80, names: 1000 };

function report(path: string, model: Model, problems: readonly Misfit[]): string {
  const of = (kind: Misfit['kind']): string[] => problems.filter(each => each.kind === kind).map(({ name }) => name);
  const [missing, unexpected, shape] = [of('missing'), of('unexpected'), of('shape')];
  const own = [...model.params, ...model.buffers].map(({ name }) => name);
  const short = (name: string): string => printable(name.slice(0, COMPARED.letters));
  const foreign = unexpected.slice(0, COMPARED.names).map(short);
  const line = ({ kind, name, shape }: Misfit): string => {
    if (kind === 'shape') return `'${name}' is ${shape}`;
    if (kind === 'missing') {
      const meant = nearest(name, foreign);
      return `missing: '${name}' ${shape}${meant === undefined ? '' : `; the nearest in the file is '${meant}'`}`;
    }
    const closest = own.reduce((a, b) => (distance(short(name), b) < distance(short(name), a) ? b : a));
    return `unexpected: '${short(name)}'; the nearest of ours is '${closest}'`;
  };
  const more = problems.length - TOLD;
  return [
    `'${path}' does not fit ${model.name} with ${counted(model.numClasses, 'class', 'classes')}: ${missing.length} entries are missing, ${unexpected.length} unexpected, ${shape.length} of another shape.`,
    ...problems.slice(0, TOLD).map(problem => `  ${line(problem)}`),
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

/** What our own files say of their network: the configuration, in checkpoints `edgevit-xxs with 3 classes at 64×64`, in exports how images are prepared. */
function describedModel({ config, model, preprocessing }: Record<string, string>): {
  name?: string;
  settings: Record<string, unknown>;
  size?: readonly [number, number];
} {
  const sides = / at (\d+)×(\d+)$/.exec(model ?? '');
  const stated = sides ? [Number(sides[1]), Number(sides[2])] : objectOf(preprocessing).size;
  const isSize =
    Array.isArray(stated) && stated.length === 2 && stated.every(side => Number.isInteger(side) && side > 0);
  return {
    name: model?.split(' ')[0],
    settings: objectOf(config),
    ...(isSize && { size: stated as [number, number] }),
  };
}

function objectOf(json = '{}'): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(json);
    const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed);
    return isObject ? (parsed as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
