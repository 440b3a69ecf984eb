import { oneOf, UserError } from '../util/errors';
import type { HostTensor, TensorFile } from './safetensors';

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

/** Before the names of the moving average, in a training checkpoint of ours. */
const AVERAGE = 'ema.';
/** What `DistributedDataParallel`, `torch.compile` and timm's `ModelEma` put before every name. */
const WRAPPERS = /^(module\.|_orig_mod\.)+/;

/** Whether a file's first ten bytes are a zip archive's or a pickle's of protocol 2 or later: a safetensors file begins with a small number instead. */
export function looksLikePickle(start: Uint8Array): boolean {
  if (String.fromCharCode(...start.subarray(0, 4)) === 'PK\x03\x04') return true;
  return start[0] === 0x80 && start[1]! <= 5 && start[8] !== 0x7b;
}

/** The weights of a safetensors file that are asked for; by default those by which our runs are judged. Throws UserError where there are none of that name. */
export function dictOf(path: string, { tensors, metadata }: TensorFile, asked?: string): StateDict {
  const dicts = ownDicts(tensors);
  const key = asked ?? Object.keys(dicts)[0]!;
  if (!Object.hasOwn(dicts, key))
    throw new UserError(
      `'${path}' is a safetensors file without '${key}': ${Object.keys(dicts).length > 1 ? `it has ${oneOf(Object.keys(dicts))}` : 'leave --key out'}.`,
    );
  const others = Object.keys(dicts).filter(other => other !== key);
  return { tensors: unwrapped(dicts[key]!), metadata, format: 'safetensors', key, others };
}

/** A file's own weights, under '', or those of a training checkpoint: the moving average, and the weights that training continues with. */
function ownDicts(tensors: Record<string, HostTensor>): Record<string, Record<string, HostTensor>> {
  const averaged = Object.entries(tensors).filter(([name]) => name.startsWith(AVERAGE));
  if (averaged.length === 0) return { '': tensors };
  const others = Object.entries(tensors).filter(([name]) => !name.startsWith(AVERAGE));
  const ema = averaged.map(([name, tensor]) => [name.slice(AVERAGE.length), tensor] as const);
  return { ema: { ...Object.fromEntries(others), ...Object.fromEntries(ema) }, weights: Object.fromEntries(others) };
}

/** Without what wrappers put before every name. */
export function unwrapped(tensors: Record<string, HostTensor>): Record<string, HostTensor> {
  const names = Object.keys(tensors);
  if (names.length === 0 || !names.every(name => WRAPPERS.test(name) || name === 'n_averaged')) return tensors;
  return Object.fromEntries(
    Object.entries(tensors)
      .filter(([name]) => WRAPPERS.test(name))
      .map(([name, tensor]) => [name.replace(WRAPPERS, ''), tensor]),
  );
}
