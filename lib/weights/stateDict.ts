import { closeSync, openSync, readSync } from 'node:fs';
import { oneOf, UserError } from '../util/errors';
import { type HostTensor, readTensors } from './safetensors';
import { openTorchFile, TensorView } from './torchFile';

/** Named tensors as they lie in a file, in PyTorch's layout, and what is known of them. */
export interface StateDict {
  tensors: Record<string, HostTensor>;
  metadata: Record<string, string>;
  format: 'safetensors' | 'PyTorch';
  /** Where in the file it was found: '' for the file itself, else a key such as `state_dict` or `model_ema.module`. */
  key: string;
  /** Other state dicts of the file, of which `key` takes one. */
  others: readonly string[];
}

/** Under which keys trainers keep weights, those that evaluation uses first where a file has no plain ones. */
const USUAL_KEYS = [
  'state_dict',
  'model',
  'state',
  'net',
  'network',
  'module',
  'params',
  'weights',
  'model_ema',
  'ema',
  'model_ema_state_dict',
  'state_dict_ema',
  'ema_state_dict',
];
/** How deep a state dict may lie: `checkpoint.model_ema.module`. */
const MAX_DEPTH = 3;
/** Before the names of the moving average, in a training checkpoint of ours. */
const AVERAGE = 'ema.';
/** What `DistributedDataParallel`, `torch.compile` and timm's `ModelEma` put before every name. */
const WRAPPERS = /^(module\.|_orig_mod\.)+/;

/**
 * Reads weights from a `.safetensors`, `.pth` or `.pt` file, told apart by their content. `key` names the dict to take where a file holds
 * several; without it a plain one is preferred to an average in PyTorch's, and the average in ours, by which our runs are judged. Throws
 * UserError for a file that holds no weights.
 */
export async function readStateDict(path: string, options: { key?: string } = {}): Promise<StateDict> {
  if (!looksLikePickle(path)) {
    const { tensors, metadata } = readTensors(path);
    const dicts = ownDicts(tensors);
    const key = options.key ?? Object.keys(dicts)[0]!;
    if (!Object.hasOwn(dicts, key))
      throw new UserError(
        `'${path}' is a safetensors file without '${key}': ${Object.keys(dicts).length > 1 ? `it has ${oneOf(Object.keys(dicts))}` : 'leave --key out'}.`,
      );
    const others = Object.keys(dicts).filter(other => other !== key);
    return { tensors: unwrapped(dicts[key]!), metadata, format: 'safetensors', key, others };
  }
  const file = await openTorchFile(path);
  try {
    const found = stateDicts(file.root);
    const key = chosenKey(path, file.root, [...found.keys()], options.key);
    const tensors = unwrapped(await file.tensors(found.get(key)!));
    return { tensors, metadata: {}, format: 'PyTorch', key, others: [...found.keys()].filter(other => other !== key) };
  } finally {
    await file.close();
  }
}

/** A file's own weights, under '', or those of a training checkpoint: the moving average, and the weights that training continues with. */
function ownDicts(tensors: Record<string, HostTensor>): Record<string, Record<string, HostTensor>> {
  const averaged = Object.entries(tensors).filter(([name]) => name.startsWith(AVERAGE));
  if (averaged.length === 0) return { '': tensors };
  const others = Object.entries(tensors).filter(([name]) => !name.startsWith(AVERAGE));
  const ema = averaged.map(([name, tensor]) => [name.slice(AVERAGE.length), tensor] as const);
  return { ema: { ...Object.fromEntries(others), ...Object.fromEntries(ema) }, weights: Object.fromEntries(others) };
}

/** A zip archive or a pickle of protocol 2 or later: a safetensors file begins with a small number instead. */
function looksLikePickle(path: string): boolean {
  const start = Buffer.alloc(10);
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    throw new UserError(`Cannot read '${path}': ${(error as Error).message}.`);
  }
  try {
    readSync(file, start, 0, start.length, 0);
  } catch (error) {
    throw new UserError(`Cannot read '${path}': ${(error as Error).message}.`);
  } finally {
    closeSync(file);
  }
  if (start.subarray(0, 4).toString('latin1') === 'PK\x03\x04') return true;
  return start[0] === 0x80 && start[1]! <= 5 && start[8] !== 0x7b;
}

/** Every dict of tensors that lies not too deep, by the path of keys to it. */
function stateDicts(root: unknown): Map<string, Map<string, TensorView>> {
  const found = new Map<string, Map<string, TensorView>>();
  const search = (value: unknown, path: string, depth: number): void => {
    if (!(value instanceof Map) || found.size > 64) return;
    const views = new Map<string, TensorView>();
    for (const [key, entry] of value) if (typeof key === 'string' && entry instanceof TensorView) views.set(key, entry);
    if (views.size > 0) found.set(path, views);
    else if (depth < MAX_DEPTH)
      for (const [key, entry] of value)
        if (typeof key === 'string') search(entry, path === '' ? key : `${path}.${key}`, depth + 1);
  };
  search(root, '', 0);
  return found;
}

function chosenKey(path: string, root: unknown, keys: readonly string[], asked?: string): string {
  if (asked !== undefined) {
    if (keys.includes(asked)) return asked;
    throw new UserError(
      `'${path}' has no tensors under '${asked}': ${keys.length > 0 ? `there are '${keys.join("', '")}'` : 'it has none at all'}.`,
    );
  }
  if (keys.includes('')) return '';
  const rank = (key: string): number => {
    const at = USUAL_KEYS.findIndex(usual => key === usual || key.startsWith(`${usual}.`));
    return at < 0 ? USUAL_KEYS.length : at;
  };
  const [best] = [...keys].sort((a, b) => rank(a) - rank(b));
  if (best !== undefined && rank(best) < USUAL_KEYS.length) return best;
  const holds =
    root instanceof Map
      ? `it holds ${
          [...root.keys()]
            .slice(0, 10)
            .map(key => `'${String(key).slice(0, 40)}'`)
            .join(', ') || 'nothing'
        }`
      : 'it is no dict';
  throw new UserError(
    `'${path}' holds no state dict where one is looked for: ${holds}${keys.length > 0 ? `; --key=${keys[0]} would take that one` : ''}.`,
  );
}

/** Without what wrappers put before every name. */
function unwrapped(tensors: Record<string, HostTensor>): Record<string, HostTensor> {
  const names = Object.keys(tensors);
  if (names.length === 0 || !names.every(name => WRAPPERS.test(name) || name === 'n_averaged')) return tensors;
  return Object.fromEntries(
    Object.entries(tensors)
      .filter(([name]) => WRAPPERS.test(name))
      .map(([name, tensor]) => [name.replace(WRAPPERS, ''), tensor]),
  );
}
