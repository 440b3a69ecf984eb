import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { decodeTensorsFrom, encodeTensors, type TensorFile } from './safetensors';

/** Writes the file whole or not at all. */
export function writeTensors(path: string, file: TensorFile): void {
  writeFileAtomic(path, ...encodeTensors(file));
}

/**
 * Reads a whole file; floats of other widths become float32, integers 64 bits. Throws UserError when it is not there, damaged, or
 * holds an element type that has no such form (8-bit floats, complex).
 */
export function readTensors(path: string): TensorFile {
  const file = open(path);
  try {
    return decodeTensorsFrom(path, fstatSync(file).size, (position, length) => read(file, position, length));
  } finally {
    closeSync(file);
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new UserError(`Cannot read '${path}': ${(error as Error).message}.`);
  }
}

function read(file: number, position: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const count = readSync(file, bytes, at, length - at, position + at);
    if (count === 0) throw new Error('The file became shorter while it was read.');
    at += count;
  }
  return bytes;
}
