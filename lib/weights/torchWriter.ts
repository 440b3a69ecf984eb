import JSZip from 'jszip';
import { writeFileAtomic } from '../util/files';
import type { HostTensor } from './safetensors';

/*
 * A state dict as `torch.save` writes it since 1.6: a zip archive, nothing compressed, of a pickle and one entry for each tensor's bytes
 * (torch/serialization.py at v2.9). `torch.load(path, weights_only=True)` reads it.
 */

/** Writes the file whole or not at all. */
export async function writeTorchFile(path: string, tensors: Readonly<Record<string, HostTensor>>): Promise<void> {
  writeFileAtomic(path, await encodeTorchFile(tensors));
}

/** The file's bytes: equal tensors, in equal order, give equal bytes. */
export function encodeTorchFile(tensors: Readonly<Record<string, HostTensor>>): Promise<Buffer> {
  const zip = new JSZip();
  const add = (name: string, bytes: Uint8Array | string): void =>
    void zip.file(`archive/${name}`, bytes, { date: new Date(Date.UTC(1980, 0, 1)), createFolders: false });
  add('data.pkl', pickled(tensors));
  add('byteorder', 'little');
  for (const [i, { data }] of Object.values(tensors).entries())
    add(`data/${i}`, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  add('version', '3\n');
  return zip.generateAsync({ type: 'nodebuffer', platform: 'DOS', compression: 'STORE' });
}

const STORAGE = { F32: 'FloatStorage', I64: 'LongStorage' } as const;

/** An OrderedDict of `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`, in pickle's protocol 2. */
function pickled(tensors: Readonly<Record<string, HostTensor>>): Buffer {
  const entries = Object.entries(tensors).map(([name, { dtype, shape, data }], i) => {
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
    const storage = [
      text('storage'),
      global('torch', STORAGE[dtype]),
      text(String(i)),
      text('cpu'),
      whole(data.length),
    ];
    const args = [tuple(storage), 'Q', whole(0), counts(shape), counts(strides), FALSE, EMPTY_ORDERED_DICT];
    return [text(name), global('torch._utils', '_rebuild_tensor_v2'), tuple(args), 'R'];
  });
  return bytesOf([PROTOCOL_2, EMPTY_ORDERED_DICT, '(', ...entries.flat(), 'u', '.']);
}

/** Opcodes as text, of one byte for each character; `unpickle` reads all of them. */
type Part = string | Buffer;
const PROTOCOL_2 = '\x80\x02';
const FALSE = '\x89';
const global = (module: string, name: string): Part => `c${module}\n${name}\n`;
const EMPTY_ORDERED_DICT = `${global('collections', 'OrderedDict')})R`;
const bytesOf = (parts: readonly Part[]): Buffer =>
  Buffer.concat(parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
const tuple = (parts: readonly Part[]): Part => bytesOf(['(', ...parts, 't']);
const counts = (values: readonly number[]): Part => tuple(values.map(whole));

function text(value: string): Part {
  const bytes = Buffer.from(value);
  const header = Buffer.from('X\0\0\0\0');
  header.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([header, bytes]);
}

/** From 0 to 2⁵³: four bytes where they are enough, else a long of eight. */
function whole(value: number): Part {
  const bytes = Buffer.from(value < 2 ** 31 ? 'J\0\0\0\0' : '\x8a\x08\0\0\0\0\0\0\0\0', 'latin1');
  if (value < 2 ** 31) bytes.writeInt32LE(value, 1);
  else bytes.writeBigInt64LE(BigInt(value), 2);
  return bytes;
}
