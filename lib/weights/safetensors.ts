import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { z } from 'zod';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';

/**
 * The safetensors format (github.com/huggingface/safetensors): eight bytes with the header's length, a JSON header, the
 * tensors' bytes one after another, little-endian and row-major. Python reads and writes the same files.
 */

/** A tensor on the host. `I64` is there for PyTorch's counters, which are the only integers in its checkpoints. */
export type HostTensor =
  | { dtype: 'F32'; shape: readonly number[]; data: Float32Array }
  | { dtype: 'I64'; shape: readonly number[]; data: BigInt64Array };

/** What a file holds, in the order in which it lies there. Metadata is text only; the format allows nothing else. */
export interface TensorFile {
  tensors: Record<string, HostTensor>;
  metadata: Record<string, string>;
}

const ELEMENT_BYTES = { F32: 4, I64: 8 } as const;
const METADATA = '__metadata__';
/** The reference implementation's bound, which keeps a damaged length from allocating the machine's memory. */
const MAX_HEADER_BYTES = 100_000_000;

/** Writes the file whole or not at all. */
export function writeTensors(path: string, file: TensorFile): void {
  writeFileAtomic(path, ...encodeTensors(file));
}

/** A file's bytes, in parts. Equal content gives equal bytes. */
export function encodeTensors({ tensors, metadata }: TensorFile): Uint8Array[] {
  const header: Record<string, unknown> = { [METADATA]: metadata };
  const parts: Uint8Array[] = [];
  let offset = 0;
  // Wide elements first, as the reference implementation does, so that each tensor lies on a multiple of its element.
  for (const [name, { dtype, shape, data }] of Object.entries(tensors).sort(byElementSize)) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    offset += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return [length, padded, ...parts];
}

function byElementSize([, a]: [string, HostTensor], [, b]: [string, HostTensor]): number {
  return ELEMENT_BYTES[b.dtype] - ELEMENT_BYTES[a.dtype];
}

const whole = z.number().int().nonnegative();
const entrySchema = z.object({ dtype: z.string(), shape: z.array(whole), data_offsets: z.tuple([whole, whole]) });
const metadataSchema = z.record(z.string(), z.string());

/** Reads a whole file. Throws UserError when it is not there, cut short, or holds another element type. */
export function readTensors(path: string): TensorFile {
  const file = open(path);
  try {
    return decode(path, fstatSync(file).size, (position, length) => read(file, position, length));
  } finally {
    closeSync(file);
  }
}

/** Reads a file that is in memory already; `name` is what messages call it. Throws UserError as `readTensors` does. */
export function decodeTensors(name: string, bytes: Uint8Array): TensorFile {
  return decode(name, bytes.length, (position, length) => {
    const copy = Buffer.from(new ArrayBuffer(length));
    copy.set(bytes.subarray(position, position + length));
    return copy;
  });
}

/** `read` gives bytes in a buffer of their own, so that typed arrays over them are aligned. */
function decode(name: string, size: number, read: (position: number, length: number) => Buffer): TensorFile {
  const refuse = (why: string): never => {
    throw new UserError(`'${name}' is not a readable safetensors file: ${why}.`);
  };
  if (size < 8) refuse('it is shorter than its header');
  const headerBytes = Number(read(0, 8).readBigUInt64LE());
  if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > size) refuse('its header is cut short');
  const header = parseHeader(read(8, headerBytes).toString()) ?? refuse('its header is not JSON');
  const { [METADATA]: text = {}, ...entries } = header;
  const metadata = metadataSchema.safeParse(text).data ?? refuse('its metadata is not text');
  let left = size - 8 - headerBytes; // tensors that share bytes could be many times the file
  const tensors: Record<string, HostTensor> = {};
  for (const [tensor, value] of Object.entries(entries)) {
    const {
      dtype,
      shape,
      data_offsets: [begin, end],
    } = entrySchema.safeParse(value).data ?? refuse(`its header does not describe '${tensor}' as the format asks`);
    if (!Object.hasOwn(ELEMENT_BYTES, dtype))
      refuse(`'${tensor}' has element type ${dtype}, only F32 and I64 are read`);
    const elements = shape.reduce((product, side) => product * side, 1);
    if (end - begin !== elements * ELEMENT_BYTES[dtype as HostTensor['dtype']])
      refuse(`the offsets of '${tensor}' do not fit its shape`);
    if (8 + headerBytes + end > size) refuse(`it is cut short at '${tensor}'`);
    left -= end - begin;
    if (left < 0) refuse('its tensors overlap');
    const { buffer, byteOffset } = read(8 + headerBytes + begin, end - begin);
    tensors[tensor] =
      dtype === 'F32'
        ? { dtype, shape, data: new Float32Array(buffer, byteOffset, elements) }
        : { dtype: 'I64', shape, data: new BigInt64Array(buffer, byteOffset, elements) };
  }
  return { tensors, metadata };
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new UserError(`Cannot read '${path}': ${(error as Error).message}.`);
  }
}

function parseHeader(json: string): Record<string, unknown> | undefined {
  try {
    const header: unknown = JSON.parse(json);
    return typeof header === 'object' && header !== null ? (header as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function read(file: number, position: number, length: number): Buffer {
  const bytes = Buffer.from(new ArrayBuffer(length));
  for (let at = 0; at < length; ) {
    const count = readSync(file, bytes, at, length - at, position + at);
    if (count === 0) throw new Error('The file became shorter while it was read.');
    at += count;
  }
  return bytes;
}
