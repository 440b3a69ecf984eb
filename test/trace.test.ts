import { afterAll, describe, expect, it, vi } from 'vitest';
import { hasGraphs, nodeBackend } from '../lib/engine/binding';
import { compile, TraceError, type Tree } from '../lib/engine/compile/compile';
import { type Tensor, type Tensor1D, type Tensor2D, tf } from '../lib/tensor/tf';
import { random } from '../lib/util/random';
import './allclose';

/** All that tracing puts aside for a while. */
function surroundings() {
  const backend = nodeBackend();
  const { numTensors, numDataBuffers, numBytes } = tf.memory();
  return {
    binding: backend.binding,
    random: Math.random,
    backend: Object.keys(backend),
    engine: Object.keys(tf.engine()),
    variables: Object.keys(tf.engine().state.registeredVariables),
    native: backend.binding.getNumOfTensors(),
    numTensors,
    numDataBuffers,
    numBytes,
  };
}

/** What compile throws; everything must be as before, and work on. */
function refusal(fn: (...args: any[]) => unknown, args: unknown[], capture: 'input' | 'constant' = 'input'): Error {
  const before = surroundings();
  const compiled = compile(fn as (...args: Tree[]) => Tree, { capture });
  let refused: unknown;
  try {
    compiled(...(args as Tree[]));
  } catch (error) {
    refused = error;
  }
  expect(surroundings()).toEqual(before);
  expect(refused).toBeInstanceOf(Error);
  return refused as Error;
}

describe.skipIf(!hasGraphs())("what can't be traced is refused", () => {
  const x = tf.tidy(() =>
    tf.add(
      tf.tensor2d([
        [1, 2],
        [3, 4],
      ]),
      0,
    ),
  ) as Tensor2D;
  const captured = tf.tidy(() => tf.add(tf.scalar(2), 0));
  const weight = tf.variable(tf.scalar(1));
  tf.add(weight, 0).dispose(); // tensors reach TensorFlow when they are first used
  const outside = random('outside');
  const optimizer = tf.train.adam(0.1);
  const stateful = tf.layers.lstm({ units: 1, stateful: true, batchInputShape: [1, 2, 2] });
  tf.sequential({ layers: [stateful] }); // builds it
  const spent = tf.train.momentum(0.1, 0.9);
  spent.dispose();
  const gone = tf.scalar(1);
  gone.dispose();
  afterAll(() => {
    expect(compile((x: Tensor) => tf.mul(tf.mul(x, captured), weight))(x)).toBeAllclose(
      tf.tensor2d([
        [2, 4],
        [6, 8],
      ]),
    );
  });

  // Each message names what is at fault, and the line where it is.
  it.each<[string, (x: Tensor2D) => unknown, string[]]>([
    ['dataSync of a result', x => tf.scalar(tf.sum(tf.mul(x, captured)).dataSync()[0]!), ['Sum']],
    ['arraySync of a result', x => tf.tensor(tf.tidy(() => tf.matMul(x, x)).arraySync()), ['MatMul']],
    ['dataSync of an argument', x => tf.scalar(x.dataSync()[0]!), ['outside']],
    ['dataSync of a captured tensor', x => tf.mul(x, captured.dataSync()[0]!), ['outside']],
    ['dataSync of a variable', x => tf.mul(x, weight.dataSync()[0]!), ['outside']],
    [
      'dataSync in a gradient',
      x =>
        tf.grad((x: Tensor) =>
          tf.customGrad((x: unknown) => {
            const value = tf.exp(x as Tensor);
            return { value, gradFunc: (dy: Tensor) => tf.mul(dy, value.dataSync()[0]!) };
          })(x),
        )(x),
      ['Exp'],
    ],
    [
      'disposal of an argument',
      x => {
        const y = tf.exp(x);
        x.dispose();
        return y;
      },
      ['disposes'],
    ],
    [
      'disposal of a captured tensor',
      x => {
        captured.dispose();
        return x;
      },
      ['disposes'],
    ],
    [
      'disposal of a variable',
      x => {
        weight.dispose();
        return x;
      },
      ['disposes'],
    ],
    ['Math.random', x => tf.mul(x, Math.random()), ['random']],
    ['dropout', x => tf.dropout(x, 0.5), ['random']],
    ['randomNormal', x => tf.add(x, tf.randomNormal([2, 2])), ['random']],
    ['randomUniform', x => tf.add(x, tf.randomUniform([2, 2])), ['random']],
    ['multinomial', x => tf.multinomial(x, 3), ['random']],
    ['unique: its shape depends on values', x => tf.unique(tf.reshape(x, [4])).values, ['UniqueV2', 'shape']],
    [
      'non-maximum suppression: its shape depends on values',
      x =>
        tf.image.nonMaxSuppression(
          tf.concat([x, x], 1) as Tensor2D,
          tf.slice(x, [0, 0], [2, 1]).reshape([2]) as Tensor1D,
          2,
        ),
      ['NonMaxSuppression', 'shape'],
    ],
    ["a draw from a stream of the lab's", x => tf.mul(x, outside.uniform()), ['random']],
    ['exp of int32, whose argument tfjs-node frees', x => tf.exp(tf.cast(x, 'int32')), ['int32', 'float32']],
    [
      "an optimizer's iterations",
      x => {
        const { iterations } = optimizer;
        return tf.mul(x, iterations);
      },
      ['iterations'],
    ],
    ['a stateful layer', x => stateful.apply(tf.reshape(x, [1, 2, 2])) as Tensor, ['lstm', 'stateful: false']],
    [
      'a backend that is set',
      x => {
        void tf.setBackend('cpu');
        return tf.neg(x);
      },
      ["'cpu'"],
    ],
    ['an optimizer that was disposed', x => [x, spent.minimize(() => tf.sum(tf.mul(weight, x)), true)], ['optimizer']],
    ['a disposed tensor', x => tf.add(x, gone), []],
    ['what TensorFlow refuses', x => tf.einsum('ij,jk->ik', x, tf.ones([3, 3])), ['Einsum']],
    ['an op that is not defined for a dtype', x => tf.expm1(tf.cast(x, 'int32')), ['Expm1 of int32', 'float32']],
    ['an op without a kernel for a dtype', x => tf.reciprocal(tf.cast(x, 'int32')), ['Reciprocal of int32', 'float32']],
    ['texts', x => [x, tf.reshape(tf.tensor1d(['a', 'b']), [2, 1])], ['strings']],
  ])('%s', (_, fn, words) => {
    const { message, stack } = refusal(fn, [x]);
    for (const word of words) expect(message).toContain(word);
    expect(`${message}${stack}`).toMatch(/trace\.test\.ts:\d+/);
  });

  it.each<[string, (x: Tensor) => unknown]>([
    ['not defined', x => tf.expm1(x)],
    ['without a kernel', x => tf.reciprocal(x)],
  ])('op by op, what is %s for a dtype is said in one sentence, too', (_, fn) => {
    const run = () => fn(tf.tensor1d([1, 2], 'int32'));
    expect(run).toThrow(/ of int32 .*trace\.test\.ts:\d+.*float32/);
    expect(run).not.toThrow(/\n/);
  });

  it.each<[string, (x: Tensor) => unknown, RegExp]>([
    ['a variable that is assigned', x => [weight.assign(tf.mean(x))], /assigns the variable '\w+'/],
    [
      'a variable that is made',
      x => tf.mul(x, tf.variable(tf.scalar(1))),
      /makes the variable '\w+'.*trace\.test\.ts:\d+/,
    ],
  ])('%s while it is frozen', (_, fn, message) => {
    expect(refusal(fn, [x], 'constant').message).toMatch(message);
  });

  it.each<[string, unknown, RegExp]>([
    ['a function among the arguments', { x, rate: () => 0.1 }, /trace\.test\.ts:\d+.*\[0\]\.rate is a function/],
    ['a Map as an argument', new Map([['x', x]]), /\[0\] is a Map/],
    ['an instance of a class', [x, new (class Point {})()], /\[0\]\[1\] is a Point/],
    ['a typed array as an argument', new Float32Array(2), /\[0\] is a Float32Array/],
    ['an argument of strings', tf.tensor1d(['a', 'b']), /strings/],
    ['an argument that was disposed', gone, /disposed/],
  ])('%s', (_, argument, message) => {
    expect(refusal(x => x, [argument]).message).toMatch(message);
  });

  it.each<[string, (x: Tensor) => unknown, RegExp]>([
    ['no result and no assignment', () => undefined, /returns no tensor.*trace\.test\.ts:\d+/],
    ['a number among the results', x => ({ x, loss: 1 }), /trace\.test\.ts:\d+.*\.loss is a number/],
    [
      'a disposed result',
      x => {
        const y = tf.exp(x);
        y.dispose();
        return y;
      },
      /disposed/,
    ],
    ['a promise as the result', async x => tf.booleanMaskAsync(x, tf.greater(x, 1)), /async.*trace\.test\.ts:\d+/],
    [
      "an error of the function's own",
      () => {
        throw new RangeError('mine');
      },
      /^mine$/,
    ],
  ])('%s', (_, fn, message) => {
    const error = refusal(fn, [x]);
    expect(error.message).toMatch(message);
    expect(error instanceof TraceError || error instanceof TypeError || error instanceof RangeError).toBe(true);
  });

  it('what fails when the graph runs leaves everything as it was', () => {
    const f = compile((x: Tensor, i: Tensor) => tf.gather(x, i as Tensor1D));
    const [good, bad] = [tf.tensor1d([1], 'int32'), tf.tensor1d([7], 'int32')];
    f(x, good).dispose();
    tf.add(bad, 0).dispose();
    const before = surroundings();
    expect(() => f(x, bad)).toThrow(/indices\[0\] = 7/);
    expect(surroundings()).toEqual(before);
    expect(f(x, good)).toBeAllclose(tf.tensor2d([[3, 4]]));
  });

  it('debug mode, in which tfjs reads every result, does not reach into graphs', () => {
    const silenced = vi.spyOn(console, 'warn').mockImplementation(() => {});
    tf.env().set('DEBUG', true);
    try {
      expect(compile((x: Tensor) => tf.log(tf.exp(x)))(x)).toBeAllclose(x);
    } finally {
      tf.env().set('DEBUG', false);
      silenced.mockRestore();
    }
  });

  it('what the function makes and disposes itself, or reads of its own constants, is fine', () => {
    const f = compile((x: Tensor) => {
      const y = tf.exp(x);
      const z = tf.log(y);
      y.dispose();
      return tf.mul(z, tf.tensor1d([2, 3]).dataSync()[1]!);
    });
    expect(f(x)).toBeAllclose(tf.mul(x, 3));
  });
});
