import { nodeBackend } from '../../engine/binding';
import { attrsOf, inputNames, NATIVE_OPS, type OpName, opNamed, outputNames } from '../../engine/nativeOps';
import { type Tensor, tf } from '../../tensor/tf';
import { type Random, random } from '../../util/random';
import { type Check, digestTensors, type Parts } from './parts';

interface Sizes {
  /** Of the table's letters. */
  letters: Readonly<Record<string, number>>;
  heads: number;
  /** What a * stands for. */
  leading: readonly number[];
}

/** Sizes that fill vectors, panels and blocks of rows and leave a rest of each. */
const SIZES: readonly Sizes[] = [
  {
    letters: { b: 2, h: 3, w: 4, c: 20, k: 3, m: 130, n: 7, r: 2, o: 3, i: 5, q: 60, x: 5, y: 23, u: 23, v: 9, s: 1 },
    heads: 2,
    leading: [2, 3],
  },
  {
    letters: {
      b: 3,
      h: 7,
      w: 5,
      c: 33,
      k: 5,
      m: 257,
      n: 33,
      r: 4,
      o: 9,
      i: 17,
      q: 99,
      x: 17,
      y: 131,
      u: 131,
      v: 35,
      s: 1,
    },
    heads: 3,
    leading: [41],
  },
  {
    letters: {
      b: 1,
      h: 49,
      w: 3,
      c: 144,
      k: 3,
      m: 1061,
      n: 50,
      r: 2,
      o: 1,
      i: 1,
      q: 432,
      x: 22,
      y: 22,
      u: 22,
      v: 22,
      s: 1,
    },
    heads: 4,
    leading: [7, 151],
  },
];

const ATTRS = { eps: 1e-5, scale: 0.3, beta1: 0.9, beta2: 0.99, rest1: 0.1, rest2: 0.01, constant_weight: false };

/** Names of inputs that no negative number can be in. */
const POSITIVE = ['variance', 'square', 'epsilon'];
const POSITIVE_OPS: readonly string[] = ['LabLog', 'LabSqrt', 'LabRsqrt'];

/** Outputs for the gradient alone, in a layout of its own with gaps that nobody writes or reads. */
const SCRATCH = ['hidden'];

type Attrs = Record<string, number | boolean>;

/** All that an op's boolean attributes can be; a transposed matrix has to be a square one here. */
function attrsFor(name: OpName, heads: number, isSquare: boolean): Attrs[] {
  const flags = opNamed(name)
    .attrs.filter(attr => attr.endsWith(': bool'))
    .map(attr => attr.slice(0, attr.indexOf(':')))
    .filter(flag => !(flag in ATTRS) && (isSquare || !flag.startsWith('transpose')));
  return flags.reduce<Attrs[]>(
    (all, flag) => all.flatMap(attrs => [false, true].map(value => ({ ...attrs, [flag]: value }))),
    [{ ...ATTRS, transpose_a: false, transpose_b: false, heads }],
  );
}

function inputsOf(name: OpName, { letters, leading }: Sizes, rng: Random): Record<string, Tensor> {
  const declared = opNamed(name).inputs;
  const { h, w, r } = letters as Record<'h' | 'w' | 'r', number>;
  const sizeOf: Record<string, number | readonly number[]> = { ...letters, H: h * r, W: w * r, '*': leading };
  return Object.fromEntries(
    inputNames(name).map(input => {
      const pattern = declared.find(each => each.startsWith(`${input}:`))!.slice(input.length + 1);
      const shape = [...pattern.replaceAll(' ', '')].flatMap(letter => sizeOf[letter] ?? Number(letter));
      const isPositive = POSITIVE.includes(input) || POSITIVE_OPS.includes(name);
      // Uniform ones alone: nothing here depends on the host's functions.
      const draw = () => (isPositive ? 1e-3 + 9 * rng.uniform() : 8 * rng.uniform() - 4);
      const values = Float32Array.from({ length: tf.util.sizeFromShape(shape) }, draw);
      return [input, tf.tensor(values, shape)];
    }),
  );
}

function run(name: OpName, inputs: Record<string, Tensor>, attrs: Attrs): Record<string, Tensor> {
  const backend = nodeBackend();
  const names = outputNames(name);
  const given = inputNames(name).map(input => inputs[input]!);
  const outputs = backend.executeMultipleOutputs(name, attrsOf(backend.binding, name, attrs), given, names.length);
  return Object.fromEntries(names.map((output, i) => [output, outputs[i]!]));
}

const isGradient = (name: OpName): boolean => Object.values(NATIVE_OPS).some(({ gradient }) => gradient === name);

/** Every op of the lab's own with its gradient, on odd shapes. */
export function kernelChecks(): Check[] {
  const names = (Object.keys(NATIVE_OPS) as OpName[]).filter(name => !isGradient(name));
  return names.map(name => ({ name: `kernel ${name}`, run: async () => tf.tidy(() => kernelParts(name)) }));
}

function kernelParts(name: OpName): Parts {
  const { gradient } = opNamed(name);
  const parts: Parts = {};
  SIZES.forEach((sizes, i) => {
    for (const attrs of attrsFor(name, sizes.heads, sizes.letters.x === sizes.letters.y)) {
      const rng = random(`golden ${name}`).fork(i);
      const inputs = inputsOf(name, sizes, rng);
      const outputs = run(name, inputs, attrs);
      const found = { ...outputs };
      if (gradient && !attrs.gelu) {
        const [y] = Object.values(outputs);
        const dy = tf.tensor(
          Float32Array.from({ length: y!.size }, () => 2 * rng.uniform() - 1),
          y!.shape,
        );
        Object.assign(found, run(gradient as OpName, { ...inputs, ...outputs, dy }, attrs));
      }
      const flags = Object.keys(attrs).filter(key => attrs[key] === true);
      const where = [`sizes ${i + 1}`, ...flags].join(' ');
      for (const [output, digest] of Object.entries(digestTensors(found)))
        if (!SCRATCH.includes(output)) parts[`${where}: ${output}`] = digest;
    }
  });
  return parts;
}
