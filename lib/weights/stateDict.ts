import { closeSync, openSync, readSync } from 'node:fs';
import { UserError } from '../util/errors';
import { dictOf, looksLikePickle, type StateDict, unwrapped } from './dicts';
import { readTensors } from './tensorFiles';
import { openTorchFile, TensorView } from './torchFile';

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

/**
 * Reads weights from a `.safetensors`, `.pth` or `.pt` file, told apart by their content. `key` names the dict to take where a file holds
 * several; without it a plain one is preferred to an average in PyTorch's, and the average in ours, by which our runs are judged. Throws
 * UserError for a file that holds no weights.
 */
export async function readStateDict(path: string, options: { key?: string } = {}): Promise<StateDict> {
  const start = startOf(path);
  if (!looksLikePickle(start)) {
    if (start[8] !== OPENING_BRACE)
      throw new UserError(
        `'${path}' holds no weights that can be read: it ${beginning(start)}, as neither a safetensors file nor one that torch.save wrote does.`,
      );
    return dictOf(path, readTensors(path), options.key);
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

/** What a safetensors file's header begins with, behind its length. */
const OPENING_BRACE = 0x7b;

/** How a file begins that is none of weights: a page that was downloaded instead of one, or a pointer to it, tell themselves. */
function beginning(start: Uint8Array): string {
  const text = String.fromCharCode(...start).replace(/\0+$/, '');
  return text === '' ? 'is empty or begins with zeros' : `begins with ${JSON.stringify(text)}`;
}

/** The first ten bytes, zeros where there are fewer. */
function startOf(path: string): Uint8Array {
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
  return start;
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
    const there =
      keys.length === 0
        ? 'it has none at all'
        : keys.includes('')
          ? 'it is itself a state dict, leave --key out'
          : `there are '${keys.join("', '")}'`;
    throw new UserError(`'${path}' has no tensors under '${asked}': ${there}.`);
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
