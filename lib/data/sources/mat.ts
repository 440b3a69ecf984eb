import { inflateSync } from 'node:zlib';
import { UserError } from '../../util/errors';

/** A numeric array of MATLAB's. */
export interface MatArray {
  shape: number[];
  /** In MATLAB's order: the first axis varies fastest. */
  data: Float64Array;
}

const COMPRESSED = 15;
const MATRIX = 14;
const COMPLEX = 0x800;

type Reader = (view: DataView, at: number, little: boolean) => number;

/** How numbers are stored, by the type of their data element. */
const STORED: Record<number, { bytes: number; read: Reader }> = {
  1: { bytes: 1, read: (view, at) => view.getInt8(at) },
  2: { bytes: 1, read: (view, at) => view.getUint8(at) },
  3: { bytes: 2, read: (view, at, little) => view.getInt16(at, little) },
  4: { bytes: 2, read: (view, at, little) => view.getUint16(at, little) },
  5: { bytes: 4, read: (view, at, little) => view.getInt32(at, little) },
  6: { bytes: 4, read: (view, at, little) => view.getUint32(at, little) },
  7: { bytes: 4, read: (view, at, little) => view.getFloat32(at, little) },
  9: { bytes: 8, read: (view, at, little) => view.getFloat64(at, little) },
  12: { bytes: 8, read: (view, at, little) => Number(view.getBigInt64(at, little)) },
  13: { bytes: 8, read: (view, at, little) => Number(view.getBigUint64(at, little)) },
};

interface Element {
  type: number;
  data: DataView;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The data elements that lie one after another in some bytes. */
function* elements(view: DataView, little: boolean): Generator<Element> {
  for (let at = 0; at < view.byteLength; ) {
    const tag = view.getUint32(at, little);
    const small = tag >>> 16; // a size there marks an element of up to four bytes, packed into its own tag
    const type = small ? tag & 0xffff : tag;
    const size = small || view.getUint32(at + 4, little);
    const start = at + (small ? 4 : 8);
    if (start + size > view.byteLength) throw new RangeError('it is cut off'); // a DataView only minds the end of the whole buffer
    yield { type, data: new DataView(view.buffer, view.byteOffset + start, size) };
    at = small ? at + 8 : type === COMPRESSED ? start + size : start + Math.ceil(size / 8) * 8;
  }
}

function numbers({ type, data }: Element, little: boolean): Float64Array {
  const stored = STORED[type];
  if (!stored) throw new RangeError(`numbers of type ${type}`);
  return Float64Array.from({ length: data.byteLength / stored.bytes }, (_, i) =>
    stored.read(data, i * stored.bytes, little),
  );
}

/** Name and values of a matrix element; undefined where it isn't a real numeric array. */
function readMatrix(view: DataView, little: boolean): [string, MatArray] | undefined {
  const [flags, shape, name, real] = elements(view, little);
  const word = flags.data.getUint32(0, little);
  const kind = word & 0xff; // 6 to 15: double, single and the integers
  if (kind < 6 || kind > 15 || word & COMPLEX) return undefined;
  const array = { shape: Array.from(numbers(shape, little)), data: numbers(real, little) };
  if (array.data.length !== array.shape.reduce((a, b) => a * b, 1))
    throw new RangeError('another number of values than its shape says');
  return [Array.from(numbers(name, little), code => String.fromCharCode(code)).join(''), array];
}

/**
 * The real numeric arrays of a MATLAB 5 file, compressed or not, of either byte order, by name; all else is passed over.
 * Throws a UserError with the file's `name` where the bytes aren't such a file, or are cut off.
 * Source: "MAT-File Format", MathWorks, the chapter on Level 5.
 */
export function readMat(bytes: Uint8Array, name: string): Record<string, MatArray> {
  const order = String.fromCharCode(bytes[126] ?? 0, bytes[127] ?? 0);
  if (order !== 'IM' && order !== 'MI') throw new UserError(`${name} is not a MATLAB 5 file.`);
  const little = order === 'IM';
  const arrays: Record<string, MatArray> = {};
  try {
    for (const { type, data } of elements(viewOf(bytes.subarray(128)), little)) {
      const packed = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      const inner = type === COMPRESSED ? elements(viewOf(inflateSync(packed)), little) : [{ type, data }];
      for (const element of inner) {
        const matrix = element.type === MATRIX ? readMatrix(element.data, little) : undefined;
        if (matrix) arrays[matrix[0]] = matrix[1];
      }
    }
  } catch (error) {
    throw new UserError(`${name} is damaged, or not a MATLAB 5 file (${(error as Error).message}).`);
  }
  return arrays;
}
