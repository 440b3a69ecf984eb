import { createHash } from 'node:crypto';
import { type Tensor, tf } from '../../tensor/tf';

/** What a check found, in the order in which it was computed: numbers as they print, of tensors the beginning of their sha256. */
export type Parts = Record<string, string>;

export interface Check {
  /** `training sgd`, `kernel LabSoftmax`: unique. */
  name: string;
  /** Computes it all, and leaves no tensor. */
  run(): Promise<Parts>;
}

/** Hexadecimal digits by which parts are told apart; the sum over all of them is whole. */
const SHORT = 12;

export const sha256 = (...parts: (string | Uint8Array)[]): string =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex');

export const shortDigest = (bytes: string | Uint8Array): string => sha256(bytes).slice(0, SHORT);

/** Of a tensor's shape and values. NaNs count as one: which of them an operation gives is no processor's promise. */
export function digestTensor(tensor: Tensor): string {
  const values = tensor.dataSync().slice();
  values.forEach((value, i) => {
    if (Number.isNaN(value)) values[i] = NaN;
  });
  return sha256(`${tensor.shape}`, new Uint8Array(values.buffer, values.byteOffset, values.byteLength)).slice(0, SHORT);
}

/** Digests of tensors by their names; they are disposed. */
export function digestTensors(tensors: Record<string, Tensor>): Parts {
  const parts = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, digestTensor(tensor)]));
  tf.dispose(tensors);
  return parts;
}
