import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { hasGraphs, nodeBackend } from '../lib/engine/binding';
import { compile, type Tree } from '../lib/engine/compile/compile';
import { reachable } from '../lib/engine/compile/ir';
import { override } from '../lib/engine/compile/override';
import { simplify } from '../lib/engine/compile/passes/simplify';
import { trace } from '../lib/engine/compile/trace';
import { exportSavedModel, type Signature } from '../lib/engine/savedModel';
import { ops } from '../lib/tensor/ops';
import { type Scalar, type Tensor, type Tensor1D, tf } from '../lib/tensor/tf';
import { flatten } from '../lib/tensor/tree';
import { UserError } from '../lib/util/errors';
import { execute } from '../lib/util/processes';
import { random } from '../lib/util/random';
import './allclose';

type Variable = ReturnType<typeof tf.variable>;

const rng = random('graph');
function normal(...shape: number[]): Tensor {
  return tf.tensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal()),
    shape,
  );
}

/** The function's result, eager and compiled (traced and replayed), must be the same: structure, shapes, dtypes and values. */
function expectAgreement(fn: (...args: never[]) => Tree, ...args: Tree[]): void {
  const compiled = compile(fn as (...args: Tree[]) => Tree);
  const eager = flatten((fn as (...args: Tree[]) => Tree)(...args));
  for (const result of [compiled(...args), compiled(...args)]) {
    const { structure, leaves } = flatten(result);
    expect(structure).toBe(eager.structure);
    leaves.forEach((leaf, i) => {
      expect(leaf.dtype).toBe(eager.leaves[i]!.dtype);
      expect(leaf).toBeAllclose(eager.leaves[i]!, 1e-6);
    });
  }
  compiled.dispose();
}

describe.skipIf(!hasGraphs())('eager and compiled agree', () => {
  const image = normal(2, 8, 8, 3);
  const kernel = normal(3, 3, 3, 4);
  const matrix = normal(4, 5);

  it.each<[string, (...args: any[]) => Tree, Tree[]]>([
    [
      'a network with its gradients',
      (x, w, v) =>
        tf.grads((...[x, w, v]: Tensor[]) =>
          tf.mean(tf.matMul(tf.reshape(tf.relu(tf.conv2d(x as never, w as never, 2, 'same')), [2, -1]), v!)),
        )([x, w, v]),
      [image, kernel, normal(64, 5)],
    ],
    [
      'softmax cross-entropy and its gradient',
      (x, y) => tf.valueAndGrad((x: Tensor) => tf.losses.softmaxCrossEntropy(y, x))(x) as never,
      [matrix, tf.oneHot([0, 3, 1, 1], 5)],
    ],
    [
      'second derivatives',
      x => tf.grad((x: Tensor) => tf.sum(tf.grad((x: Tensor) => tf.sum(tf.pow(x, 3)))(x)))(x),
      [matrix],
    ],
    [
      'accuracy and top-k, in int32 and bool',
      (x, y) => {
        const hits = tf.equal(tf.argMax(x, 1), y);
        return { accuracy: tf.mean(hits), hits, best: tf.topk(x, 2).indices, count: tf.sum(tf.cast(hits, 'int32')) };
      },
      [matrix, tf.tensor1d([0, 1, 2, 3], 'int32')],
    ],
    [
      'means of integers',
      x => tf.mean(x, 0),
      [
        tf.tensor2d(
          [
            [1, 2],
            [4, 8],
          ],
          [2, 2],
          'int32',
        ),
      ],
    ],
    [
      'matmuls, transposed and batched',
      (a, b, c) => [tf.matMul(a, b, true, false), tf.matMul(a, a, false, true), tf.matMul(c, c, true, false)],
      [matrix, matrix, normal(2, 3, 4)],
    ],
    [
      'nested arguments and results',
      ({ x, list }, [y]) => [[{ sum: tf.add(x, y) }], list, {}, []],
      [{ x: matrix, list: [matrix, tf.scalar(2)] }, [tf.scalar(3)]],
    ],
    ['a tensor given twice', (x, y) => tf.sub(tf.mul(x, 2), y), [matrix, matrix]],
    [
      'an argument returned, and a result returned twice',
      x => {
        const y = tf.exp(x);
        return [x, y, tf.reshape(x, x.shape), y];
      },
      [matrix],
    ],
    [
      'results that depend on no argument',
      () => [tf.range(0, 5), tf.ones([3, 100]), tf.eye(3), tf.scalar(true), tf.linspace(0, 1, 4)],
      [],
    ],
    [
      'scalars and empty tensors',
      (s, none) => [tf.mul(s, s), tf.concat([none, none]), tf.sum(none), tf.reshape(none, [3, 0])],
      [tf.scalar(4, 'int32'), tf.zeros([0, 3])],
    ],
    [
      'equal complex numbers, more than fit a small constant',
      x => tf.abs(tf.mul(tf.complex(tf.fill([20], 2), tf.fill([20], 3)), tf.complex(x, x))),
      [normal(20)],
    ],
    [
      'complex numbers',
      x => tf.abs(tf.ifft(tf.mul(tf.fft(x), tf.complex(0, 2)))),
      [tf.complex([1, 2, 3, 4], [0, 1, 0, -1])],
    ],
    [
      'gathers, slices, pads and concatenations',
      x =>
        tf.concat(
          [
            tf.gather(x, [2, 0], 1),
            tf.pad(tf.slice(x, [0, 1], [-1, 2]), [
              [0, 0],
              [1, 1],
            ]),
            tf.reverse(tf.stridedSlice(x, [0, 4], [4, 0], [1, -2]), 1),
          ],
          1,
        ),
      [matrix],
    ],
    [
      'gathers at computed indices, with their gradients',
      (x, i) => tf.grads((x: Tensor) => tf.gather(x, tf.sub(i, tf.scalar(1, 'int32')) as Tensor1D, 1))([x]),
      [matrix, tf.tensor1d([1, 3, 3], 'int32')],
    ],
    [
      'values that JavaScript writes anew between ops',
      x => {
        const buffer = new Float32Array(5);
        return [1, 2].map(value => tf.add(x, tf.tensor1d(buffer.fill(value))));
      },
      [matrix],
    ],
    [
      'seeded random numbers',
      x => tf.dropout(tf.add(x, tf.randomNormal([4, 5], 0, 1, 'float32', 7)), 0.5, undefined, 3),
      [matrix],
    ],
  ])('on %s', (_, fn, args) => expectAgreement(fn, ...args));

  it.each<[string, () => InstanceType<typeof tf.Optimizer>]>([
    ['sgd', () => tf.train.sgd(0.1)],
    ['momentum', () => tf.train.momentum(0.1, 0.9)],
    ['adagrad', () => tf.train.adagrad(0.1)],
    ['adadelta', () => tf.train.adadelta(0.1)],
    ['rmsprop', () => tf.train.rmsprop(0.1, 0.9, 0.5, 1e-7, true)],
    ['adam', () => tf.train.adam(0.1)],
    ['adamax', () => tf.train.adamax(0.1)],
  ])('on training with tf.train.%s, which makes its own variables', (_, makeOptimizer) => {
    const [x, y] = [normal(8, 3), normal(8, 2)];
    const initial = normal(3, 2);
    const train = (wrap: <F extends (...args: [Tensor, Tensor]) => Tensor>(fn: F) => F) => {
      const weights = tf.variable(initial);
      const optimizer = makeOptimizer();
      const step = wrap(
        (x, y) => optimizer.minimize(() => tf.losses.meanSquaredError(y, tf.matMul(x, weights)), true, [weights])!,
      );
      const losses = Array.from({ length: 5 }, () => step(x, y));
      return tf.concat([...losses.map(loss => tf.reshape(loss, [1])), tf.reshape(weights, [6])]);
    };
    expect(train(compile as never)).toBeAllclose(train(fn => fn));
  });

  it('on a model that the first call makes, its optimizer included', () => {
    const x = normal(8, 3);
    const run = (wrap: (fn: (x: Tensor) => Tensor) => (x: Tensor) => Tensor) => {
      const optimizer = tf.train.adam(0.1);
      let layer: { weight: Variable; copy: Variable } | undefined;
      const step = wrap(x => {
        if (!layer) {
          const weight = tf.variable(tf.mean(x, 0));
          layer = { weight, copy: tf.variable(tf.mul(weight, 2)) };
        }
        const { weight, copy } = layer;
        return optimizer.minimize(() => tf.sum(tf.square(tf.mul(x, tf.add(weight, copy)))), true, [weight, copy])!;
      });
      return tf.stack([step(x), step(x), step(x)]);
    };
    expect(run(fn => compile(fn))).toBeAllclose(run(fn => fn));
  });

  it('on variables that share data until one is assigned', () => {
    const run = (wrap: (fn: (x: Tensor) => Tensor[]) => (x: Tensor) => Tensor[]) => {
      const zero = tf.zeros([2]);
      const [fast, slow] = [tf.variable(zero), tf.variable(zero)];
      const before = fast.clone();
      const step = wrap(x => {
        fast.assign(tf.add(fast, x));
        fast.assign(tf.mul(fast, 2));
        slow.assign(tf.add(tf.mul(slow, 0.5), tf.mul(fast, 0.5)));
        return [tf.sub(fast, before), tf.add(slow, zero)];
      });
      return [1, 2, 3].flatMap(x => step(tf.tensor1d([x, -x])));
    };
    const eager = run(fn => fn);
    run(fn => compile(fn)).forEach((tensor, i) => expect(tensor).toBeAllclose(eager[i]!));
  });
});

describe.skipIf(!hasGraphs())('what a compiled function captures', () => {
  it('is read anew at each call, assignments between them included', () => {
    const weight = tf.variable(tf.scalar(2));
    const f = compile((x: Tensor) => tf.mul(x, weight));
    expect(f(tf.scalar(3))).toBeAllclose(6);
    weight.assign(tf.scalar(5));
    expect(f(tf.scalar(3))).toBeAllclose(15);
  });

  it("is frozen by capture: 'constant'", () => {
    const weight = tf.variable(tf.scalar(2));
    const f = compile((x: Tensor) => tf.mul(x, weight), { capture: 'constant' });
    expect(f(tf.scalar(3))).toBeAllclose(6);
    weight.assign(tf.scalar(5));
    expect(f(tf.scalar(3))).toBeAllclose(6);
  });

  it('is not mistaken for an argument that has its data', () => {
    const y = tf.scalar(2);
    const f = compile((x: Tensor) => tf.mul(x, y));
    expect(f(y)).toBeAllclose(4);
    expect(f(tf.scalar(5))).toBeAllclose(10);
  });

  it('may be another compiled function, which becomes a part of the graph', () => {
    const weight = tf.variable(tf.scalar(2));
    const inner = compile((x: Tensor) => tf.mul(x, weight), { capture: 'constant' });
    const outer = compile((x: Tensor) => tf.grad((x: Tensor) => tf.square(inner(x)))(x));
    expect(outer(tf.scalar(3))).toBeAllclose(24);
    weight.assign(tf.scalar(1));
    expect(outer(tf.scalar(3))).toBeAllclose(6);
  });
});

describe.skipIf(!hasGraphs())('what a compiled function takes and gives', () => {
  it('are numbers, booleans, strings, null and undefined, which belong to the signature', () => {
    let traces = 0;
    const f = compile((x: Tensor, options: { rate: number; train?: boolean; mode: string | null }) => {
      traces++;
      const y = tf.mul(x, options.rate);
      return options.train ? tf.neg(y) : options.mode === 'square' ? tf.square(y) : y;
    });
    const x = tf.scalar(3);
    for (const round of [1, 2]) {
      expect(f(x, { rate: 2, mode: null }), `round ${round}`).toBeAllclose(6);
      expect(f(x, { rate: 2, mode: 'null' })).toBeAllclose(6);
      expect(f(x, { rate: 2, mode: 'square' })).toBeAllclose(36);
      expect(f(x, { rate: 0.5, train: true, mode: null })).toBeAllclose(-1.5);
      expect(f(x, { rate: 0.5, train: undefined, mode: null })).toBeAllclose(1.5);
    }
    expect(traces).toBe(5);
  });

  it('are records of any origin, of which none is taken for another', () => {
    const f = compile((record: Record<string, Tree>) => tf.mul(record.b! as Tensor, Object.keys(record).length));
    const elsewhere = runInNewContext('({})') as Record<string, Tree>;
    expect(f(Object.assign(elsewhere, { b: tf.scalar(2) }))).toBeAllclose(2);
    expect(f(Object.assign(Object.create(null), { b: tf.scalar(3) }))).toBeAllclose(3);

    const keys = compile((record: Record<string, Tree>) =>
      tf.mul(flatten(record).leaves[0]!, Object.keys(record).length),
    );
    expect(keys({ a: {}, b: tf.scalar(1) })).toBeAllclose(2);
    expect(keys({ 'a:{},b': tf.scalar(1) })).toBeAllclose(1);
  });

  it('may be nothing, where variables are assigned', () => {
    const count = tf.variable(tf.scalar(0));
    const step = compile((x: Tensor) => {
      count.assign(tf.add(count, x));
    });
    for (let i = 0; i < 3; i++) expect(step(tf.scalar(2))).toBeUndefined();
    expect(count).toBeAllclose(6);
    expect(compile((x: Tensor) => ({ y: tf.neg(x), aux: undefined }))(tf.scalar(1)).aux).toBeUndefined();
  });
});

describe.skipIf(!hasGraphs())('gradients through a compiled function', () => {
  const x = tf.tensor1d([1, 2, 3]);

  it('reach its arguments, beside other terms', () => {
    const square = compile((x: Tensor) => tf.square(x));
    for (const _ of [1, 2]) expect(tf.grad((x: Tensor) => tf.add(square(x), tf.mul(x, 3)))(x)).toBeAllclose([5, 7, 9]);
  });

  it('reach the variables and tensors that it captured, with the values that they had', () => {
    const w = tf.variable(tf.scalar(2));
    const shift = tf.tensor1d([1, 1, 1]);
    const f = compile((x: Tensor) => {
      const y = tf.mul(tf.mul(x, shift.clone()), w);
      w.assign(tf.add(w, 1));
      return y;
    });
    const loss = () => tf.sum(tf.mul(f(x), x)) as Scalar;
    expect(Object.values(tf.variableGrads(() => tf.add(loss(), tf.square(w)), [w]).grads)[0]).toBeAllclose(14 + 2 * 3);
    expect(w).toBeAllclose(3);
    expect(tf.grad((_: Tensor) => tf.sum(f(x)))(shift)).toBeAllclose([3, 6, 9]);
    expect(w).toBeAllclose(4);
  });

  it('come from every float result, and none from others', () => {
    const f = compile((x: Tensor) => ({ index: tf.argMax(x), parts: [tf.mul(x, 2), tf.square(x)] as const }));
    const gradient = tf.grad((x: Tensor) => {
      const { index, parts } = f(x);
      return tf.add(tf.sum(tf.mul(parts[1], tf.cast(index, 'float32'))), tf.sum(parts[0]));
    })(x);
    expect(gradient).toBeAllclose([6, 10, 14]);
  });

  it('train with an optimizer as an eager function does', () => {
    const train = (wrap: <F extends () => Tensor>(fn: F) => F) => {
      const w = tf.variable(tf.scalar(1));
      const error = wrap(() => tf.sub(w, 5));
      const optimizer = tf.train.adam(0.1);
      for (let i = 0; i < 3; i++)
        optimizer.minimize(() => tf.add(tf.square(error()), tf.mul(0.01, tf.square(w))) as Scalar, false, [w]);
      return w;
    };
    expect(train(fn => compile(fn) as never)).toBeAllclose(train(fn => fn));
  });

  it('leave no tensors behind', () => {
    const w = tf.variable(tf.scalar(2));
    const f = compile((x: Tensor) => tf.mul(tf.square(x), w));
    const round = () => tf.dispose(tf.variableGrads(() => tf.sum(f(x)), [w]));
    round();
    const { numTensors } = tf.memory();
    round();
    expect(tf.memory().numTensors).toBe(numTensors);
  });

  it('are refused, by the name of the function, where there are none', () => {
    const w = tf.variable(tf.scalar(2));
    const frozen = compile((x: Tensor) => tf.mul(x, w), { capture: 'constant', name: 'scaled' });
    expect(tf.grad((x: Tensor) => frozen(x))(x)).toBeAllclose([2, 2, 2]);
    expect(() => tf.variableGrads(() => tf.sum(tf.mul(frozen(x), w)) as Scalar, [w])).toThrow(/'scaled' froze/);
    const cube = compile((x: Tensor) => tf.pow(x, 3), { name: 'cube' });
    const second = (f: (x: Tensor) => Tensor) => (x: Tensor) => tf.grad((x: Tensor) => tf.sum(tf.grad(f)(x)))(x);
    expect(() => second(cube)(x)).toThrow(/'cube'/);
    expect(compile(second(cube))(x)).toBeAllclose([6, 12, 18]);
  });
});

describe.skipIf(!hasGraphs())('what optimizers keep on the host', () => {
  const OPTIMIZERS: [string, () => InstanceType<typeof tf.Optimizer>][] = [
    ['sgd', () => tf.train.sgd(0.1)],
    ['momentum', () => tf.train.momentum(0.1, 0.9)],
    ['adagrad', () => tf.train.adagrad(0.1)],
    ['adadelta', () => tf.train.adadelta(0.1)],
    ['rmsprop', () => tf.train.rmsprop(0.1)],
    ['adam', () => tf.train.adam(0.1)],
    ['adamax', () => tf.train.adamax(0.1)],
  ];
  it.each(OPTIMIZERS)('is read anew at each call: the rate of tf.train.%s', (_, makeOptimizer) => {
    const train = (wrap: <F extends () => void>(fn: F) => F) => {
      const w = tf.variable(tf.scalar(1));
      const optimizer = makeOptimizer() as unknown as InstanceType<typeof tf.Optimizer> & {
        learningRate: number;
        setLearningRate?(rate: number): void;
      };
      const step = wrap(() => {
        optimizer.minimize(() => tf.square(w) as Scalar, false, [w]);
      });
      const values: Tensor[] = [];
      for (const rate of [0.1, 0.5, 0, 0.2, 0.2]) {
        if (optimizer.setLearningRate) optimizer.setLearningRate(rate);
        else optimizer.learningRate = rate;
        step();
        values.push(tf.clone(w));
      }
      return { values: tf.stack(values), iterations: optimizer.iterations };
    };
    const [eager, compiled] = [train(fn => fn), train(fn => compile(fn) as never)];
    expect(compiled.values).toBeAllclose(eager.values);
    expect(compiled.iterations).toBe(eager.iterations);
  });

  it.each(OPTIMIZERS)('is read for every optimizer and step that one call makes: tf.train.%s', (_, makeOptimizer) => {
    const train = (wrap: <F extends () => void>(fn: F) => F) => {
      const weights = [1, 2, 3].map(value => tf.variable(tf.scalar(value)));
      const optimizers = weights.map(makeOptimizer) as (InstanceType<typeof tf.Optimizer> & {
        learningRate: number;
        setLearningRate?(rate: number): void;
      })[];
      const step = wrap(() => {
        for (let i = 0; i < 3; i++)
          optimizers.forEach((optimizer, k) => {
            optimizer.minimize(() => tf.square(weights[k]!) as Scalar, false, [weights[k]!]);
          });
      });
      step();
      optimizers.forEach((optimizer, k) => {
        if (optimizer.setLearningRate) optimizer.setLearningRate(k / 20);
        else optimizer.learningRate = k / 20;
      });
      step();
      return { values: tf.stack(weights), iterations: optimizers.map(({ iterations }) => iterations) };
    };
    const [eager, compiled] = [train(fn => fn), train(fn => compile(fn) as never)];
    expect(compiled.values).toBeAllclose(eager.values);
    expect(compiled.iterations).toEqual(eager.iterations);
  });

  it('is traced again where a tensor takes its place that is no rate', () => {
    const train = (wrap: <F extends () => void>(fn: F) => F) => {
      const w = tf.variable(tf.scalar(1));
      const optimizer = tf.train.momentum(0.1, 0.9) as unknown as InstanceType<typeof tf.Optimizer> & { m: Scalar };
      const step = wrap(() => {
        optimizer.minimize(() => tf.square(w) as Scalar, false, [w]);
      });
      step();
      optimizer.m = tf.scalar(0.1);
      step();
      return w;
    };
    expect(train(fn => compile(fn) as never)).toBeAllclose(train(fn => fn));
  });

  it('is traced again where it is not a rate', () => {
    const train = (wrap: <F extends () => void>(fn: F) => F) => {
      const w = tf.variable(tf.scalar(1));
      const optimizer = tf.train.adam(0.1) as unknown as InstanceType<typeof tf.Optimizer> & { epsilon: number };
      const step = wrap(() => {
        optimizer.minimize(() => tf.square(w) as Scalar, false, [w]);
      });
      step();
      optimizer.epsilon = 1;
      step();
      return w;
    };
    expect(train(fn => compile(fn) as never)).toBeAllclose(train(fn => fn));
  });

  it('refuses a call after it was disposed', () => {
    const w = tf.variable(tf.scalar(1));
    for (const optimizer of [tf.train.sgd(0.1), tf.train.adam(0.1)]) {
      const step = compile(() => optimizer.minimize(() => tf.square(w) as Scalar, true, [w])!);
      step();
      optimizer.dispose();
      expect(() => step()).toThrow(/disposed/);
    }
  });
});

describe.skipIf(!hasGraphs())('random numbers by a seed', () => {
  const draws = (seed: number, calls: number) => {
    const f = compile((x: Tensor) => [tf.dropout(x, 0.25), tf.randomNormal([2000]), tf.randomUniform([2000], -1, 3)], {
      seed,
    });
    return Array.from({ length: calls }, () => f(tf.ones([2000])));
  };

  it('are others in each call and for each seed, and the same again', () => {
    const [first, again, other] = [draws(1, 2), draws(1, 2), draws(2, 2)];
    for (const [call, results] of first.entries())
      for (const [i, tensor] of results.entries()) {
        expect(tensor).toBeAllclose(again[call]![i]!, 0);
        for (const stranger of [other[call]![i]!, first[1 - call]![i]!, results[(i + 1) % 3]!])
          expect(tf.mean(tf.abs(tf.sub(tensor, stranger))).dataSync()[0]).toBeGreaterThan(0.1);
      }
  });

  it('have the distributions of the ops', () => {
    const [[dropped, normals, uniforms]] = draws(3, 1) as [[Tensor, Tensor, Tensor]];
    const values = [...dropped.dataSync()];
    expect(new Set(values.map(value => value.toFixed(4)))).toEqual(new Set(['0.0000', '1.3333']));
    const expectMoments = (tensor: Tensor, mean: number, variance: number) => {
      const moments = tf.moments(tensor);
      expect(Math.abs(moments.mean.dataSync()[0]! - mean)).toBeLessThan(0.15); // 5 standard errors of the widest
      expect(Math.abs(moments.variance.dataSync()[0]! - variance)).toBeLessThan(0.2);
    };
    expectMoments(dropped, 1, 1 / 3);
    expectMoments(normals, 0, 1);
    expectMoments(uniforms, 1, 16 / 12);
  });

  it('train a model of tf.layers with dropout, reproducibly, by the mask of its forward pass', () => {
    const train = () => {
      const model = tf.sequential({
        layers: [
          tf.layers.dense({ units: 16, inputShape: [4], activation: 'relu', kernelInitializer: 'ones' }),
          tf.layers.dropout({ rate: 0.5 }),
          tf.layers.dense({ units: 1, kernelInitializer: 'ones' }),
        ],
      });
      const optimizer = tf.train.sgd(1e-3);
      const step = compile(
        (x: Tensor, y: Tensor) =>
          optimizer.minimize(() => tf.losses.meanSquaredError(y, model.apply(x, { training: true }) as Tensor), true)!,
        { seed: 7 },
      );
      const [x, y] = [tf.ones([8, 4]), tf.zeros([8, 1])];
      return Array.from({ length: 20 }, () => step(x, y).dataSync()[0]!);
    };
    const losses = train();
    expect(train()).toEqual(losses);
    expect(losses[19]).toBeLessThan(losses[0]! / 2);

    const masked = compile((x: Tensor) => tf.dropout(x, 0.5), { seed: 5 });
    let forward!: Tensor;
    const gradient = tf.grad((x: Tensor) => (forward = tf.keep(masked(x))))(tf.ones([100]));
    expect(gradient).toBeAllclose(forward, 0);
  });
});

it.skipIf(!hasGraphs())('takes arguments and captured tensors back that another backend had meanwhile', () => {
  const [x, w, c] = [tf.add(tf.ones([2]), 1), tf.variable(tf.ones([2])), tf.add(tf.ones([2]), 2)];
  const f = compile((x: Tensor) => tf.mul(x, w));
  expect(f(x)).toBeAllclose([2, 2]);
  void tf.setBackend('cpu');
  try {
    expect(() => f(x)).toThrow(/'cpu' is set.*graph\.test\.ts:\d+/);
    tf.addN([x, w, c]).dispose();
  } finally {
    void tf.setBackend('tensorflow');
  }
  expect(f(x)).toBeAllclose([2, 2]);
  void tf.setBackend('cpu');
  tf.add(w, c).dispose();
  void tf.setBackend('tensorflow');
  const g = compile((x: Tensor) => tf.addN([x, w, c]));
  expect(g(x)).toBeAllclose([6, 6]);
  w.assign(tf.zeros([2]));
  expect(g(x)).toBeAllclose([5, 5]);
});

describe.skipIf(!hasGraphs())('an asynchronous call', () => {
  it('gives the same, in order, and takes its arguments as they are', async () => {
    const total = tf.variable(tf.scalar(0));
    const step = compile((x: Tensor) => {
      total.assign(tf.add(total, x));
      return tf.mul(total, 2);
    });
    const results = [1, 2, 3].map(value => {
      const x = tf.scalar(value);
      const result = step.async(x);
      x.dispose();
      return result;
    });
    expect(() => step(tf.scalar(1))).toThrow(/asynchronously/);
    expect((await Promise.all(results)).map(tensor => tensor.dataSync()[0])).toEqual([2, 6, 12]);
    expect(step(tf.scalar(4))).toBeAllclose(20);
  });

  it('leaves the event loop free', async () => {
    const power = compile((x: Tensor) => {
      let y = x;
      for (let i = 0; i < 40; i++) y = tf.mul(tf.matMul(y, x), 1 / 400);
      return tf.sum(y);
    });
    const x = tf.ones([400, 400]);
    power(x).dispose();
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const result = await power.async(x);
    clearInterval(timer);
    expect(result.dataSync()[0]).toBeCloseTo(160_000, -2);
    expect(ticks).toBeGreaterThan(0);
  });

  it('rejects with what the graph says, and the next one runs', async () => {
    const f = compile((x: Tensor, i: Tensor) => tf.gather(x, i as Tensor1D));
    const [x, good, bad] = [tf.tensor1d([1, 2]), tf.tensor1d([1], 'int32'), tf.tensor1d([7], 'int32')];
    const [first, second] = [f.async(x, bad), f.async(x, good)];
    await expect(first).rejects.toThrow(/indices\[0\] = 7/);
    expect(await second).toBeAllclose([2]);
  });
});

describe.skipIf(!hasGraphs())('a dynamic batch', () => {
  it('is served by one graph, which trains as an eager function does', () => {
    const train = (wrap: <F extends (x: Tensor, y: Tensor) => Tensor>(fn: F) => F) => {
      const w = tf.variable(tf.ones([4, 2]));
      const optimizer = tf.train.adam(0.1);
      const step = wrap((x, y) => optimizer.minimize(() => tf.losses.meanSquaredError(y, tf.matMul(x, w)), true, [w])!);
      const losses = [5, 2, 9, 1].map(batch => step(tf.fill([batch, 4], batch / 9), tf.zeros([batch, 2])));
      return tf.concat([tf.stack(losses), tf.reshape(w, [8])]);
    };
    let compiled: { dispose(): void } | undefined;
    let traces = 0;
    const results = train(fn => {
      const counted = (x: Tensor, y: Tensor) => {
        traces++;
        return fn(x, y);
      };
      return (compiled = compile(counted, { dynamicBatch: [0, 1] })) as never;
    });
    expect(results).toBeAllclose(train(fn => fn));
    expect(traces).toBe(3); // to compare the graphs
    compiled!.dispose();
  });

  it("goes through the lab's kernels and shapes made of it", () => {
    const [w, b] = [normal(6, 6), normal(6)];
    const network = (x: Tensor) => {
      const rows = tf.reshape(x, [-1, 6]);
      const y = ops.layerNorm(tf.add(rows, ops.matmul(rows, w, b)), tf.ones([6]), b, 1e-5);
      return tf.mean(tf.mul(tf.reshape(y, [x.shape[0]!, -1]), tf.ones([x.shape[0]!, 24])), 1);
    };
    for (const capture of ['input', 'constant'] as const) {
      const f = compile(network, { dynamicBatch: [0], capture });
      for (const batch of [1, 3, 40]) {
        const x = normal(batch, 4, 6);
        expect(f(x)).toBeAllclose(network(x));
      }
      f.dispose();
    }
  });

  it('is refused where the graph is another for each, and for unequal batches', () => {
    const unrolled = compile((x: Tensor) => tf.addN(tf.unstack(x)), { dynamicBatch: [0] });
    expect(() => unrolled(tf.ones([2, 3]))).toThrow(/dynamic batch/);
    const squared = compile((x: Tensor) => tf.mul(x, x.shape[0]! ** 2), { dynamicBatch: [0] });
    expect(() => squared(tf.ones([2]))).toThrow(/dynamic batch/);
    const sum = compile((x: Tensor, y: Tensor) => [tf.sum(x), tf.sum(y)], { dynamicBatch: [0, 1], name: 'sums' });
    expect(() => sum(tf.ones([2]), tf.ones([3]))).toThrow(/'sums'.*2, 3/);
    expect(() => tf.grad((x: Tensor) => sum(x, x)[0]!)(tf.ones([2]))).toThrow(/'sums'/);
  });
});

describe.skipIf(!hasGraphs())('signatures', () => {
  it('are traced once each: shapes, dtypes and structure', () => {
    let traces = 0;
    const f = compile((x: Tree) => {
      traces++;
      return flatten(x).leaves.map(leaf => tf.sum(leaf));
    });
    const inputs: Tree[] = [
      tf.ones([2, 3]),
      tf.ones([4, 3]),
      tf.ones([2, 3], 'int32'),
      [tf.ones([2, 3])],
      { x: tf.ones([2, 3]) },
    ];
    for (const round of [1, 2]) for (const input of inputs) expect(f(input)[0]!.shape, `round ${round}`).toEqual([]);
    expect(traces).toBe(inputs.length);
    f.dispose();
    f(inputs[0]!);
    expect(traces).toBe(inputs.length + 1);
  });

  it('are bounded: past maxSignatures the oldest goes, with one warning', () => {
    const warn = vi.spyOn(console, 'error').mockImplementation(() => {});
    let traces = 0;
    const f = compile(
      (x: Tensor) => {
        traces++;
        return tf.sum(x);
      },
      { name: 'summed', maxSignatures: 2 },
    );
    const results = [1, 2, 3, 2, 1].map(size => f(tf.ones([size])).dataSync()[0]);
    expect(results).toEqual([1, 2, 3, 2, 1]);
    expect(traces).toBe(4);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![0]).toContain("'summed'");
    warn.mockRestore();
  });
});

describe.skipIf(!hasGraphs())('memory', () => {
  const { binding } = nodeBackend();
  const held = () => ({
    tensors: tf.memory().numTensors,
    buffers: tf.memory().numDataBuffers,
    bytes: tf.memory().numBytes,
    native: binding.getNumOfTensors(),
  });

  it('is where it was after 1,000 steps that assign variables', () => {
    const w = tf.variable(normal(64, 64));
    const optimizer = tf.train.adam(1e-3);
    const step = compile((x: Tensor) => optimizer.minimize(() => tf.mean(tf.square(tf.matMul(x, w))), true, [w])!);
    const x = normal(1024, 64); // 256 KB that each step squares, so a leak of one such tensor is 256 MB
    const run = (steps: number) => {
      for (let i = 0; i < steps; i++) step(x).dispose();
      return { ...held(), rss: process.memoryUsage.rss() };
    };
    const before = run(50);
    const after = run(1_000);
    expect({ ...after, rss: 0 }).toEqual({ ...before, rss: 0 });
    expect(after.rss - before.rss).toBeLessThan(100e6);
  });

  it.skipIf(process.platform !== 'linux')('is not asked of the system again in each call', () => {
    const x = tf.ones([3072, 3072]); // 9,216 pages
    const f = compile((x: Tensor) => tf.sum(tf.square(tf.exp(tf.mul(x, 0.5))), 0));
    const run = (calls: number) => {
      for (let i = 0; i < calls; i++) f(x).dispose();
      return process.resourceUsage().minorPageFault;
    };
    const before = run(10);
    expect(run(10) - before).toBeLessThan(9216);
  });

  it('is freed by dispose, all of it', () => {
    const w = tf.variable(normal(8, 8));
    const x = normal(8, 8);
    const round = () => {
      const captured = tf.clone(x);
      const f = compile((x: Tensor) => tf.grad((x: Tensor) => tf.sum(tf.matMul(tf.mul(x, captured), w)))(x));
      f(x).dispose();
      captured.dispose();
      f(x).dispose();
      f.dispose();
      return held();
    };
    expect(round()).toEqual(round());
  });

  it('is freed with functions that nobody holds, though they call themselves', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const x = normal(4);
    tf.add(x, 0).dispose();
    const before = binding.getNumOfTensors();
    const forget = () => {
      const captured = tf.add(x, 1);
      const f: (x: Tensor) => Tensor = compile((x: Tensor) => tf.mul(x, tf.add(captured, f.length)));
      tf.dispose([f(x), captured]);
    };
    for (let i = 0; i < 10; i++) forget();
    expect(binding.getNumOfTensors()).toBeGreaterThan(before);
    await vi.waitUntil(
      () => {
        collect();
        return binding.getNumOfTensors() <= before + 1; // the last may still be on the stack
      },
      { timeout: 60_000, interval: 100 },
    );
  });

  it('is freed by `using`', () => {
    const f = compile((x: Tensor) => tf.neg(x));
    const dispose = (Symbol as { dispose?: symbol }).dispose;
    const disposer = dispose && (f as unknown as Record<symbol, () => void>)[dispose];
    expect(typeof disposer).toBe(dispose ? 'function' : 'undefined');
    f(tf.scalar(1)).dispose();
    disposer?.();
    expect(f(tf.scalar(1))).toBeAllclose(-1);
  });

  it('holds no copy of uniform tensors: a graph with 40 MB of zeros is small', () => {
    const before = process.memoryUsage.rss();
    const f = compile((x: Tensor1D) => tf.sum(tf.add(tf.zeros([10_000_000]), x)));
    expect(f(tf.ones([1]))).toBeAllclose(1e7);
    expect(process.memoryUsage.rss() - before).toBeLessThan(300e6);
  });
});

describe.skipIf(!hasGraphs())('long functions', () => {
  it('are compiled without recursion, 12,000 ops deep', () => {
    const w = tf.ones([4, 4]);
    const chain = (x: Tensor) => {
      let sum: Tensor = w;
      for (let i = 0; i < 12_000; i++) sum = tf.add(sum, 1);
      return ops.matmul(x, sum, tf.zeros([4]));
    };
    const deep = trace(chain as never, [tf.ones([1, 4])], { capture: 'constant' });
    expect(simplify(nodeBackend().binding, deep).outputs).toHaveLength(1);
  });

  it('has the shapes that values decide, of alike ops each its own', () => {
    const f = compile(() => [tf.range(0, 4), tf.range(0, 7), tf.range(0, 7, 2), tf.fill([2], 1), tf.fill([3], 1)]);
    expect(f().map(({ shape }) => shape)).toEqual([[4], [7], [4], [2], [3]]);
  });

  it('ask TensorFlow for shapes once for all ops that are alike, and again where a shape or a type is another', () => {
    const { binding } = nodeBackend();
    const { graphOp } = binding;
    let asked = 0;
    const restore = override(binding, {
      graphOp: (...args) => {
        asked++;
        return graphOp(...args);
      },
    });
    const loop = (steps: number) => (x: Tensor) => {
      let y = x;
      for (let i = 0; i < steps; i++) y = tf.tanh(tf.add(tf.matMul(y, x), i));
      return tf.grad((x: Tensor) => tf.sum(tf.mul(y, x)))(x);
    };
    const costs = [10, 1000].map(steps => {
      asked = 0;
      trace(loop(steps) as never, [tf.ones([3, 3])], { capture: 'input' });
      return asked;
    });
    restore();
    expect(costs[1]).toBe(costs[0]);
    expect(costs[0]).toBeLessThan(30);

    const shapes = (x: Tensor) => {
      const rows = tf.split(x, [1, 2, 1]);
      const sums = [0, 1, -1].map(axis => tf.sum(x, axis));
      const turned = [tf.transpose(x), tf.transpose(tf.reshape(x, [3, 4])), tf.reshape(x, [2, 2, 3])];
      const types = [tf.cast(x, 'int32'), tf.square(tf.cast(x, 'int32')), tf.square(x), tf.greater(x, 1)];
      const gathered = tf.gather(x, tf.cast(tf.slice(x, [0, 0], [2, 1]).flatten(), 'int32'));
      return [...rows, ...sums, ...turned, ...types, gathered, tf.square(turned[0]!), tf.square(turned[1]!)];
    };
    const x = tf.fill([4, 3], 1);
    const compiled = compile(shapes);
    const [expected, actual] = [shapes(x), compiled(x)];
    expect(actual.map(({ shape, dtype }) => ({ shape, dtype }))).toEqual(
      expected.map(({ shape, dtype }) => ({ shape, dtype })),
    );
    actual.forEach((tensor, i) => expect(tensor).toBeAllclose(expected[i]!));
    compiled.dispose();
  });

  it('hold one node for equal constants, and keep those apart that only compare as equal', () => {
    const constants = (fn: (x: Tensor) => Tensor[]) =>
      reachable(trace(fn as never, [tf.ones([4])], { capture: 'input' }).outputs).filter(({ op }) => op === 'Const');
    expect(constants(x => Array.from({ length: 50 }, () => tf.add(x, 1)))).toHaveLength(1);
    expect(constants(x => [0, -0, NaN].map(value => tf.mul(x, value)))).toHaveLength(3);
    expect(constants(x => [tf.add(x, tf.zeros([4])), tf.reshape(tf.add(x, tf.zeros([2, 1])), [8])])).toHaveLength(3);
  });
});

/** The output of a piece of JavaScript in a process of its own. */
async function runElsewhere(code: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
  const opened = `require('./lib/engine/open').openEngine().then(() => {${code}})`;
  const { code: status, output } = await execute(process.execPath, ['--import', 'tsx', '-e', opened], {
    cwd: join(__dirname, '..'),
    env: { ...process.env, ...env },
  });
  expect(status, output).toBe(0);
  return output;
}

it.skipIf(!hasGraphs())('two processes train to the same bytes', async () => {
  const train = `
    const { createHash } = require('node:crypto');
    const { tf } = require('./lib/tensor/tf');
    const { compile } = require('./lib/engine/compile/compile');
    const [x, kernel, w] = [[16, 12, 12, 3], [3, 3, 3, 32], [32 * 36, 5]].map((shape, i) => tf.randomNormal(shape, 0, 0.1, 'float32', i + 1));
    const labels = tf.oneHot(tf.range(0, 16, 1, 'int32').mod(tf.scalar(5, 'int32')), 5);
    const variables = [kernel, w].map(value => tf.variable(value));
    const optimizer = tf.train.adam(0.01);
    const loss = () => tf.losses.softmaxCrossEntropy(labels, tf.matMul(tf.relu(tf.conv2d(x, variables[0], 2, 'same')).reshape([16, -1]), variables[1]));
    const step = compile(() => optimizer.minimize(loss, true, variables));
    const losses = Array.from({ length: 20 }, () => step().dataSync()[0]);
    const hash = createHash('sha256');
    for (const variable of variables) hash.update(variable.dataSync());
    console.log(JSON.stringify({ losses, weights: hash.digest('hex') }));`;
  const [first, second] = await Promise.all([runElsewhere(train), runElsewhere(train)]);
  expect(second).toBe(first);
  const { losses } = JSON.parse(first) as { losses: number[] };
  expect(losses[19]).toBeLessThan(losses[0]! / 2);
});

it('on the pure-JS engine a compiled function runs op by op, which is said once', async () => {
  const output = await runElsewhere(
    `
    const { tf } = require('./lib/tensor/tf');
    const { compile } = require('./lib/engine/compile/compile');
    const double = compile(x => tf.mul(x, 2)), triple = compile(x => tf.mul(x, 3));
    console.log(double(tf.scalar(4)).dataSync()[0], triple(tf.scalar(4)).dataSync()[0]);
    double.dispose();
    try { double.profile(tf.scalar(1)); } catch (error) { console.log(error.message); }`,
    { EDGEVIT_ENGINE: 'js' },
  );
  expect(output).toMatch(/^8 12$/m);
  expect(output).toMatch(/native engine/);
  expect(output.match(/^compile: /gm)).toHaveLength(1);
});

it.skipIf(!hasGraphs())('a profile names the kernels that one run takes', () => {
  const f = compile((x: Tensor) => tf.softmax(tf.matMul(x, x)));
  const timings = f.profile(normal(64, 64));
  const kernels = timings.map(({ label }) => label).join();
  expect(kernels).toContain('MatMul');
  expect(kernels).toContain('Softmax');
  for (const { duration } of timings) expect(duration).toBeGreaterThanOrEqual(0);
});

describe.skipIf(!hasGraphs())('exportSavedModel', () => {
  const folder = mkdtempSync(join(tmpdir(), 'saved-model-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  const weight = tf.variable(normal(3, 200));
  const network = ({ x, mask, count }: Record<string, Tensor>) => ({
    y: tf.where(mask!, ops.layerNorm(tf.matMul(x!, weight), tf.ones([200]), tf.zeros([200]), 1e-5), tf.zeros([2, 200])),
    next: tf.add(count!, tf.scalar(1, 'int32')),
    same: x!,
  });
  const signature: Signature = {
    x: { shape: [2, 3], dtype: 'float32' },
    mask: { shape: [2, 1], dtype: 'bool' },
    count: { shape: [], dtype: 'int32' },
  };

  it('writes what stock tfjs-node loads, by names, shapes and dtypes', async () => {
    const dir = join(folder, 'new/model');
    const tensors = tf.memory().numTensors;
    exportSavedModel(dir, network, signature);
    expect(tf.memory().numTensors).toBe(tensors);
    expect(readdirSync(join(folder, 'new'))).toEqual(['model']);

    const { node } = tf as unknown as {
      node: {
        loadSavedModel(dir: string): Promise<{
          inputs: object[];
          predict(inputs: Record<string, Tensor>): Record<string, Tensor>;
          dispose(): void;
        }>;
      };
    };
    const model = await node.loadSavedModel(dir);
    const inputs = { x: normal(2, 3), mask: tf.tensor2d([[true], [false]]), count: tf.scalar(41, 'int32') };
    const [expected, outputs] = [network(inputs), model.predict(inputs)];
    expect(Object.keys(outputs).sort()).toEqual(Object.keys(expected).sort());
    for (const [name, output] of Object.entries(outputs))
      expect(output).toBeAllclose(expected[name as keyof typeof expected]);
    model.dispose();
  });

  it('holds the weights, standard ops and no uniform constants', () => {
    const dir = join(folder, 'small');
    exportSavedModel(
      dir,
      ({ x }) => ({
        y: ops.layerNorm(tf.matMul(x!, weight), tf.ones([200]), tf.zeros([200]), 1e-5),
        big: tf.zeros([1000, 1000]),
      }),
      { x: signature.x! },
    );
    const bytes = readFileSync(join(dir, 'saved_model.pb'));
    expect(bytes.includes(Buffer.from(new Uint8Array(weight.dataSync<'float32'>().buffer)))).toBe(true);
    expect(bytes.length).toBeLessThan(weight.size * 4 + 10_000);
    expect(bytes.includes('LabLayerNorm')).toBe(false);
  });

  it('takes a batch of any size, dtypes by the names that people use, and results in any form', async () => {
    const network = ({ x }: Record<string, Tensor>) => {
      const y = tf.relu(tf.matMul(x!, weight));
      return { y, parts: { mean: tf.mean(y, 0), all: [tf.ones([x!.shape[0]!, 2])] } };
    };
    const dir = join(folder, 'dynamic');
    exportSavedModel(dir, network, { x: { shape: [-1, 3], dtype: 'float' as 'float32' } });
    const { node } = tf as unknown as {
      node: { loadSavedModel(dir: string): Promise<{ predict(x: object): Record<string, Tensor>; dispose(): void }> };
    };
    const model = await node.loadSavedModel(dir);
    for (const batch of [1, 5]) {
      const x = normal(batch, 3);
      const [{ y, parts }, outputs] = [network({ x }), model.predict({ x })];
      expect(Object.keys(outputs).sort()).toEqual(['parts_all_0', 'parts_mean', 'y']);
      expect(outputs.y!).toBeAllclose(y);
      expect(outputs.parts_mean!).toBeAllclose(parts.mean);
      expect(outputs.parts_all_0!).toBeAllclose(parts.all[0]!);
    }
    model.dispose();

    exportSavedModel(join(folder, 'single'), ({ x }) => tf.neg(x!), { x: signature.x! });
    expect(readFileSync(join(folder, 'single/saved_model.pb')).includes('output_0')).toBe(true);
    for (const [x, message] of [
      [{ shape: [2], dtype: 'float64' as 'float32' }, /'float64'.*'float32'/],
      [{ shape: [2, -1], dtype: 'float32' }, /\[2, -1\]/],
    ] as const)
      expect(() => exportSavedModel(join(folder, 'refused'), ({ x }) => tf.neg(x!), { x })).toThrow(message);
  });

  it('takes an empty folder and refuses others, and names that Python could not pass', () => {
    const dir = mkdtempSync(join(folder, 'empty-'));
    exportSavedModel(dir, ({ x }) => ({ y: tf.neg(x!) }), { x: signature.x! });
    expect(() => exportSavedModel(dir, network, signature)).toThrow(UserError);
    writeFileSync(join(folder, 'file'), '');
    expect(() => exportSavedModel(join(folder, 'file'), network, signature)).toThrow(UserError);
    expect(() =>
      exportSavedModel(join(folder, 'names'), ({ 'x 1': x }) => ({ y: tf.neg(x!) }), { 'x 1': signature.x! }),
    ).toThrow(/'x 1'/);
    expect(() =>
      exportSavedModel(join(folder, 'names'), ({ x }) => ({ 'y/1': tf.neg(x!) }), { x: signature.x! }),
    ).toThrow(/'y\/1'/);
    expect(readdirSync(folder)).not.toContain('names');
  });
});
