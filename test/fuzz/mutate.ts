import type { Random } from '../../lib/util/random';

/** Numbers that sizes, offsets and counts are not: they end somewhere else, or wrap around. */
const EXTREMES = [
  0,
  1,
  0x7f,
  0x80,
  0xff,
  0x7fff,
  0xffff,
  0x7fffffff,
  0x80000000,
  0xffffffff,
  2 ** 33,
  2 ** 53,
  2 ** 63,
];

type Mutation = (bytes: Buffer, rng: Random, others: readonly Buffer[]) => Buffer;

const somewhere = (bytes: Buffer, rng: Random): [from: number, to: number] => {
  const from = rng.int(bytes.length + 1);
  return [from, Math.min(bytes.length, from + rng.int(1 + 2 ** rng.int(12)))];
};

const MUTATIONS: readonly Mutation[] = [
  /** Cut short. */
  (bytes, rng) => bytes.subarray(0, rng.int(bytes.length + 1)),
  /** Bytes of any value, up to eight. */
  (bytes, rng) => {
    for (let i = 0; i <= rng.int(8) && bytes.length > 0; i++) bytes[rng.int(bytes.length)] = rng.int(256);
    return bytes;
  },
  /** A number in binary, of 1 to 8 bytes. */
  (bytes, rng) => {
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(BigInt(EXTREMES[rng.int(EXTREMES.length)]!));
    number.copy(bytes, rng.int(bytes.length + 1), 0, 2 ** rng.int(4));
    return bytes;
  },
  /** A number in text. */
  (bytes, rng) => {
    const text = bytes.toString('latin1');
    const numbers = [...text.matchAll(/\d+/g)];
    const chosen = numbers[rng.int(Math.max(1, numbers.length))];
    if (!chosen) return bytes;
    const other = [...EXTREMES, -1, 0.5, '1e400', '"x"', '[]'][rng.int(EXTREMES.length + 5)];
    return Buffer.from(text.slice(0, chosen.index) + other + text.slice(chosen.index + chosen[0].length), 'latin1');
  },
  /** A part left out, twice there, or of another file. */
  (bytes, rng) => {
    const [from, to] = somewhere(bytes, rng);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
  },
  (bytes, rng) => {
    const [from, to] = somewhere(bytes, rng);
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]);
  },
  (bytes, rng, others) => {
    const other = others[rng.int(others.length)]!;
    return Buffer.concat([bytes.subarray(0, rng.int(bytes.length + 1)), other.subarray(rng.int(other.length + 1))]);
  },
];

/** A file like one of these, with one to three faults. */
export function mutated(files: readonly Buffer[], rng: Random): Buffer {
  let bytes: Buffer = Buffer.from(files[rng.int(files.length)]!);
  for (let i = 0; i <= rng.int(3); i++) bytes = MUTATIONS[rng.int(MUTATIONS.length)]!(Buffer.from(bytes), rng, files);
  return bytes;
}
