import { describe, expect, it } from 'vitest';
import { hasGraphs } from '../lib/engine/binding';
import { compile } from '../lib/engine/compile/compile';
import { type Tensor, type Tensor1D, type Tensor4D, tf } from '../lib/tensor/tf';
import { type Random, random } from '../lib/util/random';

/**
 * Chains of ops, because what rewrites a graph looks at several: each must give compiled what it gives eagerly, where values are NaN,
 * infinite, zeros of either sign, below the smallest normal number, or so large that sums lose what is added to them.
 */
const SPECIAL = [NaN, Infinity, -Infinity, 0, -0, 1, -1, 0.5, -2, 3, 1e20, -1e30, 12_582_912, 1e-7, 1e-40, -1e-44];
const SIZE = 48;

type Op = (x: Tensor, rng: Random) => Tensor;
const CONSTANTS = [0, 1, -1, 2, 0.5, -0.1, 12_582_912, 1e-3, 1e30];
const constant = (rng: Random) => tf.scalar(CONSTANTS[rng.int(CONSTANTS.length)]!);
const image = (x: Tensor) => tf.reshape(x, [1, 4, 4, 3]) as Tensor4D;

// Each takes and gives a tensor [48].
const OPS: Record<string, Op> = {
  relu: x => tf.relu(x),
  relu6: x => tf.relu6(x),
  elu: x => tf.elu(x),
  leakyRelu: x => tf.leakyRelu(x, 0.3),
  abs: x => tf.abs(x),
  neg: x => tf.neg(x),
  square: x => tf.square(x),
  sqrt: x => tf.sqrt(x),
  rsqrt: x => tf.rsqrt(x),
  reciprocal: x => tf.reciprocal(x),
  sign: x => tf.sign(x),
  exp: x => tf.exp(x),
  log: x => tf.log(x),
  tanh: x => tf.tanh(x),
  sigmoid: x => tf.sigmoid(x),
  power: (x, rng) => tf.pow(x, tf.scalar([0.5, 1, 2, 3, -0.5, 0][rng.int(6)]!)),
  'x + c': (x, rng) => tf.add(x, constant(rng)),
  'c + x': (x, rng) => tf.add(constant(rng), x),
  'x − c': (x, rng) => tf.sub(x, constant(rng)),
  'c − x': (x, rng) => tf.sub(constant(rng), x),
  'x · c': (x, rng) => tf.mul(x, constant(rng)),
  'x / c': (x, rng) => tf.div(x, constant(rng)),
  'c / x': (x, rng) => tf.div(constant(rng), x),
  'x + x': x => tf.add(x, x),
  'x − x': x => tf.sub(x, x),
  'x / x': x => tf.div(x, x),
  'x · 0': x => tf.mul(x, tf.zeros([SIZE])),
  'max(x, c x)': (x, rng) => tf.maximum(x, tf.mul(x, constant(rng))),
  'min(c x, x)': (x, rng) => tf.minimum(tf.mul(x, constant(rng)), x),
  'max(x, c)': (x, rng) => tf.maximum(x, constant(rng)),
  'not (x < c)': (x, rng) => tf.cast(tf.logicalNot(tf.less(x, constant(rng))), 'float32'),
  'not (x ≥ c)': (x, rng) => tf.cast(tf.logicalNot(tf.greaterEqual(x, constant(rng))), 'float32'),
  'x = x': x => tf.cast(tf.equal(x, x), 'float32'),
  'x where x > 0': x => tf.where(tf.greater(x, 0), x, tf.zerosLike(x)),
  clip: x => tf.clipByValue(x, -1, 2),
  transposed: x => tf.reshape(tf.transpose(tf.reshape(x, [4, 12])), [SIZE]),
  reversed: x => tf.reverse(x as Tensor1D),
  'less its maximum': x => tf.sub(x, tf.max(x)),
  'sum of rows': x => tf.reshape(tf.tile(tf.sum(tf.reshape(x, [4, 12]), 1, true), [1, 12]), [SIZE]),
  'mean of rows': x => tf.reshape(tf.add(tf.mean(tf.reshape(x, [4, 12]), 1, true), tf.zeros([4, 12])), [SIZE]),
  'matmul + bias': x =>
    tf.reshape(tf.add(tf.matMul(tf.reshape(x, [16, 3]), tf.eye(3)), tf.tensor1d([0, 1, -1])), [SIZE]),
  'convolution + bias': x =>
    tf.reshape(tf.add(tf.conv2d(image(x), tf.ones([1, 1, 3, 3]), 1, 'same'), tf.tensor1d([0, 1, -1])), [SIZE]),
  'depthwise convolution + bias': x =>
    tf.reshape(tf.add(tf.depthwiseConv2d(image(x), tf.ones([1, 1, 3, 1]), 1, 'same'), tf.tensor1d([0, 1, -1])), [SIZE]),
};
const NAMES = Object.keys(OPS);

/**
 * Where they differ: NaN and infinities in other places, or finite values by more than 1e-5 of themselves and a few roundings of 1, which is
 * what is left of log(exp(x)) or (x + 1) − 1 where x is small and eager ops are another library's.
 */
function difference(eager: Float32Array, compiled: Float32Array): string | undefined {
  for (const [i, wanted] of eager.entries()) {
    const value = compiled[i]!;
    const isClose = Number.isFinite(wanted) && Math.abs(value - wanted) <= 1e-5 * Math.abs(wanted) + 1e-6;
    if (!Object.is(value, wanted) && !isClose) return `[${i}] is ${value}, not ${wanted}`;
  }
  return undefined;
}

describe.skipIf(!hasGraphs())('chains of ops give compiled what they give eagerly', () => {
  it.each(['input', 'constant'] as const)('captured as %s', capture => {
    const rng = random(`chains ${capture}`);
    const failures: string[] = [];
    for (let program = 0; program < 8; program++) {
      const chains = Array.from({ length: 25 }, () =>
        Array.from({ length: 2 + rng.int(4) }, () => NAMES[rng.int(NAMES.length)]!),
      );
      const captured = tf.tensor1d(Array.from({ length: SIZE }, () => SPECIAL[rng.int(SPECIAL.length)]!));
      const x = tf.tensor1d(Array.from({ length: SIZE }, () => SPECIAL[rng.int(SPECIAL.length)]!));
      const run = (x: Tensor) =>
        chains.map((chain, i) => {
          const constants = random(`${capture} ${program} ${i}`);
          return chain.reduce((y, name) => OPS[name]!(y, constants), i % 5 ? x : captured.add(x)) as Tensor;
        });
      const compiled = compile(run, { capture });
      const [eager, results] = [run(x), compiled(x)];
      for (const [i, chain] of chains.entries()) {
        const found = difference(eager[i]!.dataSync() as Float32Array, results[i]!.dataSync() as Float32Array);
        if (found) failures.push(`${chain.join(' → ')}: ${found}`);
      }
      compiled.dispose();
      tf.dispose([eager, results, captured, x]);
    }
    expect(failures).toEqual([]);
  });
});
