/** Element types of weight files, named as safetensors names them, little-endian. */
export const ELEMENT_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  U64: 8,
  I32: 4,
  U32: 4,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;

export type ElementType = keyof typeof ELEMENT_BYTES;

/** Values as the lab holds them: every float as float32, every integer as 64 bits. */
export type Values = { dtype: 'F32'; data: Float32Array } | { dtype: 'I64'; data: BigInt64Array };

/**
 * The elements of `bytes` (their length a multiple of the element's, copied where not aligned). float64 is rounded to float32, half
 * precision and bfloat16 are exact in it. An unsigned integer of 2⁶³ or more wraps.
 */
export function convert(type: ElementType, bytes: Uint8Array): Values {
  const width = ELEMENT_BYTES[type];
  const { buffer, byteOffset, length } = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
  const count = length / width;
  switch (type) {
    case 'F32':
      return { dtype: 'F32', data: new Float32Array(buffer as ArrayBuffer, byteOffset, count) };
    case 'F64':
      return { dtype: 'F32', data: Float32Array.from(new Float64Array(buffer as ArrayBuffer, byteOffset, count)) };
    case 'F16':
      return { dtype: 'F32', data: fromHalf(new Uint16Array(buffer as ArrayBuffer, byteOffset, count)) };
    case 'BF16':
      return { dtype: 'F32', data: fromBfloat16(new Uint16Array(buffer as ArrayBuffer, byteOffset, count)) };
    case 'I64':
    case 'U64':
      return { dtype: 'I64', data: new BigInt64Array(buffer as ArrayBuffer, byteOffset, count) };
    default: {
      const Source = {
        I32: Int32Array,
        U32: Uint32Array,
        I16: Int16Array,
        U16: Uint16Array,
        I8: Int8Array,
        U8: Uint8Array,
        BOOL: Uint8Array,
      }[type];
      const source = new Source(buffer as ArrayBuffer, byteOffset, count);
      const data = new BigInt64Array(count);
      for (let i = 0; i < count; i++) data[i] = BigInt(source[i]!);
      return { dtype: 'I64', data };
    }
  }
}

/** IEEE 754 binary16 → float32, exact: subnormals are scaled, infinities and NaN keep their kind. */
export function fromHalf(halves: Uint16Array): Float32Array {
  const result = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i]!;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const size =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction === 0
            ? Number.POSITIVE_INFINITY
            : Number.NaN
          : (1024 + fraction) * 2 ** (exponent - 25);
    result[i] = half & 0x8000 ? -size : size;
  }
  return result;
}

/** bfloat16 is the upper half of a float32. */
export function fromBfloat16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
  return new Float32Array(bits.buffer);
}

/** float32 as the bits of float16, to the nearest, of two the even one; what is too large becomes infinite. */
export function toHalf(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) halves[i] = halfOf(bits[i]!);
  return halves;
}

function halfOf(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const size = word & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00; // no number
  if (size >= 0x477ff000) return sign | 0x7c00;
  // Below 2^-14 there are fewer digits: the last one is 2^-24.
  if (size < 0x38800000) return sign | roundHalfEven(Math.abs(floatOf(word)) * 2 ** 24);
  const rebiased = size - 0x38000000;
  return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

function floatOf(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
