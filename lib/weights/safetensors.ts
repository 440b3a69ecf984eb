import { z } from 'zod';
import { UserError } from '../util/errors';
import { shortened } from '../util/text';
import { convert, ELEMENT_BYTES, type ElementType } from './elements';

/**
 * The safetensors format (github.com/huggingface/safetensors): eight bytes with the header's length, a JSON header, the
 * tensors' bytes one after another, little-endian and row-major. Python reads and writes the same files.
 */

/** A tensor on the host: whatever a file holds, floats are float32 here and integers 64 bits. */
export type HostTensor =
  | { dtype: 'F32'; shape: readonly number[]; data: Float32Array }
  | { dtype: 'I64'; shape: readonly number[]; data: BigInt64Array };

/** What a file holds, in the order in which it lies there. Metadata is text only; the format allows nothing else. */
export interface TensorFile {
  tensors: Record<string, HostTensor>;
  metadata: Record<string, string>;
}

const METADATA = '__metadata__';
/** The reference implementation's bound, which keeps a damaged length from allocating the machine's memory. */
const MAX_HEADER_BYTES = 100_000_000;
/** A hundred times as many as the largest networks have in a file. */
const MAX_TENSORS = 100_000;

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
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(8 * Math.ceil(json.length / 8)).fill(0x20);
  padded.set(json);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(padded.length), true);
  return [length, padded, ...parts];
}

function byElementSize([, a]: [string, HostTensor], [, b]: [string, HostTensor]): number {
  return ELEMENT_BYTES[b.dtype] - ELEMENT_BYTES[a.dtype];
}

const whole = z.number().int().nonnegative();
const entrySchema = z.object({ dtype: z.string(), shape: z.array(whole), data_offsets: z.tuple([whole, whole]) });
const metadataSchema = z.record(z.string(), z.string());

/** Bytes of a file in a buffer of their own, so that typed arrays over them are aligned. */
export type ReadBytes = (position: number, length: number) => Uint8Array<ArrayBuffer>;

/** Reads a file that is in memory; `name` is what messages call it. Throws UserError as `decodeTensorsFrom` does. */
export function decodeTensors(name: string, bytes: Uint8Array): TensorFile {
  return decodeTensorsFrom(
    name,
    bytes.length,
    (position, length) => new Uint8Array(bytes.subarray(position, position + length)),
  );
}

/**
 * Reads a file of `size` bytes, its header first; floats of other widths become float32, integers 64 bits. Throws UserError where it is
 * damaged or holds an element type that has no such form (8-bit floats, complex).
 */
export function decodeTensorsFrom(name: string, size: number, read: ReadBytes): TensorFile {
  const refuse = (why: string): never => {
    throw new UserError(`'${name}' is not a readable safetensors file: ${shortened(why)}.`);
  };
  if (size < 8) refuse('it is shorter than its header');
  const headerBytes = Number(new DataView(read(0, 8).buffer).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > size) refuse('its header is cut short');
  const json = new TextDecoder('utf-8', { ignoreBOM: true }).decode(read(8, headerBytes));
  const header = parseHeader(json) ?? refuse('its header is no JSON object');
  const twice = repeatedKey(json);
  if (twice !== undefined) refuse(`'${twice}' comes twice`);
  if (Object.hasOwn(header, '__proto__')) refuse("'__proto__' is no name of a tensor");
  const { [METADATA]: text = {}, ...entries } = header;
  if (Object.keys(entries).length > MAX_TENSORS) refuse(`it has more than ${MAX_TENSORS} tensors`);
  const metadata = metadataSchema.safeParse(text).data ?? refuse('its metadata is not text');
  const described = Object.entries(entries).map(([tensor, value]) => {
    const entry =
      entrySchema.safeParse(value).data ?? refuse(`its header does not describe '${tensor}' as the format asks`);
    return { tensor, ...entry };
  });
  checkLayout(described, size - 8 - headerBytes, refuse);
  const tensors: Record<string, HostTensor> = {};
  for (const { tensor, dtype, shape, data_offsets } of described) {
    const [begin, end] = data_offsets;
    tensors[tensor] = {
      shape,
      ...convert(dtype as ElementType, read(8 + headerBytes + begin, end - begin)),
    } as HostTensor;
  }
  return { tensors, metadata };
}

/** The format asks that tensors fill the file from the header to the end, none over another and no bytes between. */
function checkLayout(
  described: readonly {
    tensor: string;
    dtype: string;
    shape: readonly number[];
    data_offsets: readonly [number, number];
  }[],
  bytes: number,
  refuse: (why: string) => never,
): void {
  for (const { tensor, dtype, shape, data_offsets } of described) {
    if (!Object.hasOwn(ELEMENT_BYTES, dtype))
      refuse(`'${tensor}' has element type ${dtype}, only ${Object.keys(ELEMENT_BYTES).join(', ')} are read`);
    const elements = shape.reduce((product, side) => product * side, 1);
    if (data_offsets[1] - data_offsets[0] !== elements * ELEMENT_BYTES[dtype as ElementType])
      refuse(`the offsets of '${tensor}' do not fit its shape`);
  }
  let end = 0;
  for (const { tensor, data_offsets } of [...described].sort(
    (a, b) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1],
  )) {
    if (data_offsets[0] < end) refuse(`'${tensor}' overlaps the tensor before it`);
    if (data_offsets[0] > end) refuse(`there are ${data_offsets[0] - end} bytes of no tensor before '${tensor}'`);
    end = data_offsets[1];
    if (end > bytes) refuse(`it is cut short at '${tensor}'`);
  }
  if (end < bytes) refuse(`it has ${bytes - end} bytes behind its last tensor`);
}

/**
 * The first key that the header, or one of its entries, has twice, of which `JSON.parse` would silently keep the last. `json` is one that it has
 * parsed; of any length, so that no regular expression may walk it.
 */
function repeatedKey(json: string): string | undefined {
  const keys = [new Set<string>(), new Set<string>()];
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (character === '{' || character === '[') keys[depth++]?.clear();
    else if (character === '}' || character === ']') depth--;
    else if (character === '"') {
      const end = endOfText(json, at);
      const known = isFollowedByColon(json, end) ? keys[depth - 1] : undefined;
      const key = known && (JSON.parse(json.slice(at, end)) as string);
      if (key !== undefined && known!.size === known!.add(key).size) return key;
      at = end - 1;
    }
  }
  return undefined;
}

/** Behind the closing quote of the text that is opened at `start`. */
function endOfText(json: string, start: number): number {
  for (let at = start + 1; ; at++) {
    at = json.indexOf('"', at);
    let slashes = 0;
    while (json[at - 1 - slashes] === '\\') slashes++;
    if (slashes % 2 === 0) return at + 1;
  }
}

function isFollowedByColon(json: string, at: number): boolean {
  while (/\s/.test(json[at])) at++;
  return json[at] === ':';
}

function parseHeader(json: string): Record<string, unknown> | undefined {
  try {
    const header: unknown = JSON.parse(json);
    return typeof header === 'object' && header !== null && !Array.isArray(header)
      ? (header as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
