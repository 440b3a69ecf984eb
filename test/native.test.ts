import { fork } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hasGraphs, nodeBackend } from '../lib/engine/binding';
import { compile } from '../lib/engine/compile/compile';
import { fusedOps } from '../lib/engine/fused';
import { stockOps } from '../lib/tensor/ops';
import { type Tensor, type Tensor2D, type Tensor4D, tf } from '../lib/tensor/tf';
import './allclose';
import type { Outcome } from './native/fuzz';

const sequence = (...shape: number[]): Tensor => tf.reshape(tf.sin(tf.range(0, tf.util.sizeFromShape(shape))), shape);

const ADAM = {
  step: tf.scalar(1e-3),
  epsilon: tf.scalar(1e-8),
  keep: tf.scalar(1),
};

describe.skipIf(!hasGraphs())('kernels are given only what they can read', () => {
  /** In a process of its own: an abort, or a division by zero, is a failure that names the call. */
  it('200 calls of random shapes compute or are refused, by name and shapes', async () => {
    const outcomes: Outcome[] = [];
    let last: Outcome | undefined;
    const end = await new Promise<string>(resolve => {
      const child = fork(join(__dirname, 'native/fuzz.ts'), ['200'], {
        execArgv: ['--import', 'tsx'],
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      });
      child.on('message', (message: { begins?: Outcome; ends?: Outcome }) => {
        last = message.begins ?? last;
        if (message.ends) outcomes.push(message.ends);
      });
      child.on('exit', (code, signal) => resolve(String(signal ?? code)));
    });
    expect(end, JSON.stringify(last)).toBe('0');
    expect(outcomes).toHaveLength(200);
    const refused = outcomes.filter(({ error }) => error);
    for (const { op, shapes, error } of refused) {
      expect(error).toContain(op);
      for (const shape of shapes) expect(error).toContain(`[${shape.join(', ')}]`);
    }
    expect(refused.length).toBeGreaterThan(40);
    expect(refused.length).toBeLessThan(160);
  });

  const x = sequence(2, 64);
  const [one, zero] = [tf.tensor1d([2]), tf.tensor1d([0.5])];
  it.each<[string, (ops: typeof stockOps) => Tensor]>([
    ['layerNorm', ops => ops.layerNorm(x, one, zero, 1e-5)],
    ['batchNorm', ops => ops.batchNorm(x, one, zero, 1e-5).y],
    ['biasGelu', ops => ops.biasGelu(x, one)],
    ['addBias', ops => ops.addBias(x, one)],
    ['matmul', ops => ops.matmul(sequence(200, 8), sequence(8, 4), one)],
    ['addScaled', ops => ops.addScaled(x, x, one)],
    ['addScaled of one row', ops => ops.addScaled(x, sequence(1, 64), one)],
    ['localProp', ops => ops.localProp(sequence(1, 2, 2, 8), sequence(2, 2, 8), one)],
    ['depthwiseConv by two', ops => ops.depthwiseConv(sequence(1, 4, 4, 16), sequence(3, 3, 16, 2), one)],
  ])('%s broadcasts what stock ops broadcast', (_name, fn) => {
    expect(fn(fusedOps)).toBeAllclose(fn(stockOps));
  });

  it.each<[string, (ops: typeof stockOps) => Tensor]>([
    ['layerNorm', ops => ops.layerNorm(x, sequence(32), sequence(32), 1e-5)],
    ['biasGelu', ops => ops.biasGelu(sequence(4, 8), sequence(2))],
    ['addScaled', ops => ops.addScaled(sequence(4, 3), sequence(4, 3), sequence(2))],
    ['matmul', ops => ops.matmul(sequence(200, 8), sequence(9, 4))],
    ['attention without heads', ops => ops.attention(sequence(1, 4, 30), { heads: 0 })],
    ['attention of heads that do not divide', ops => ops.attention(sequence(1, 4, 30), { heads: 3 })],
    ['localProp of rank 3', ops => ops.localProp(sequence(2, 2, 8), sequence(2, 2, 8), sequence(8))],
    [
      'adam',
      ops => {
        const slot = sequence(100);
        return ops.adam({ param: slot, mean: slot, square: slot }, sequence(3), { beta1: 0.9, beta2: 0.9 }, ADAM).param;
      },
    ],
  ])('%s refuses what stock ops refuse, eager and compiled', (_name, fn) => {
    expect(() => fn(stockOps)).toThrow();
    expect(() => fn(fusedOps)).toThrow();
    expect(() => compile(() => fn(fusedOps))()).toThrow();
  });

  it('an output larger than memory is an error', () => {
    const backend = nodeBackend();
    const inputs = [tf.zeros([2 ** 23, 1, 1, 1]), tf.zeros([3000, 3000, 1]), tf.zeros([1])];
    expect(() => backend.executeMultipleOutputs('LabLocalProp', [], inputs, 1)).toThrow(/allocat|memory/i);
    tf.dispose(inputs);
  });
});

describe.skipIf(!hasGraphs())('numbers below the smallest normal one are zero', () => {
  const zeros = (x: Tensor) => (x.dataSync() as Float32Array).filter(value => value === 0).length;

  it('on every thread, however many values there are', async () => {
    const times = compile((x: Tensor) => tf.mul(x, 1e-30));
    for (const count of [16, 1000, 100_000]) {
      const x = tf.fill([count], 1e-10);
      expect([tf.mul(x, 1e-30), times(x), await times.async(x)].map(zeros)).toEqual([count, count, count]);
    }
    const tiny = tf.fill([16, 12_500], 1e-10);
    const scaled = compile((branch: Tensor2D) =>
      fusedOps.addScaled(tf.zeros([16, 12_500]), branch, tf.fill([16], 1e-30)),
    );
    for (let i = 0; i < 10; i++) expect(zeros(scaled(tiny as Tensor2D))).toBe(200_000);
    const slot = tf.zeros([200_000]);
    const update = compile(
      (grad: Tensor) =>
        fusedOps.adam({ param: slot, mean: slot, square: slot }, grad, { beta1: 0.9, beta2: 0.999 }, ADAM).square,
    );
    for (let i = 0; i < 10; i++) expect(zeros(update(tf.fill([200_000], 1e-20)))).toBe(200_000);
  });

  it("and JavaScript's own numbers stay as they are", () => {
    fusedOps.biasGelu(sequence(4, 8), sequence(8)).dataSync();
    expect(Math.fround(1e-40)).toBeGreaterThan(0);
    expect(5e-324 * 1).toBeGreaterThan(0);
  });
});

describe.skipIf(!hasGraphs())('far out and in between', () => {
  it('GELU and its gradient at ±1e38', () => {
    const x = tf.tensor2d([[-1e38, -1e30, -50, 50, 1e30, 1e38]]);
    const [y, slope] = [
      fusedOps.biasGelu(x, tf.zeros([6])),
      tf.grad((x: Tensor) => fusedOps.biasGelu(x, tf.zeros([6])))(x),
    ];
    expect([...y.dataSync()]).toEqual([-0, -0, -0, 50, Math.fround(1e30), Math.fround(1e38)]);
    expect([...slope.dataSync()]).toEqual([0, 0, 0, 1, 1, 1]);
  });

  /** Rows of the matmul that lie across two images have no factor of their own. */
  it('drop path over rows that do not divide by the images', () => {
    const [weight, bias, scale] = [sequence(90, 4), sequence(4), tf.tensor1d([0, 1.25, 2])];
    const block = (ops: typeof stockOps) => (x: Tensor) =>
      ops.addScaled(
        tf.reshape(x, [3, 200]),
        tf.reshape(ops.matmul(tf.reshape(sequence(150, 90), [150, 90]), weight, bias), [3, 200]),
        scale,
      );
    const gradients = (ops: typeof stockOps) =>
      tf.grad((weight: Tensor) =>
        tf.sum(
          tf.square(
            ops.addScaled(sequence(8, 67), tf.reshape(ops.matmul(sequence(134, 90), weight), [8, 67]), sequence(8)),
          ),
        ),
      )(sequence(90, 4));
    const x = sequence(600);
    expect(compile(block(fusedOps))(x)).toBeAllclose(block(stockOps)(x));
    expect(compile(() => gradients(fusedOps))()).toBeAllclose(gradients(stockOps));
  });
});

describe.skipIf(!hasGraphs())("ops of TensorFlow's that compiled graphs take from the lab", () => {
  const x = sequence(3, 4, 5, 6);
  const positive = tf.add(tf.abs(x), 1e-3);
  it.each<[string, () => Tensor]>([
    ['matmul', () => tf.matMul(sequence(7, 50), sequence(50, 130))],
    ['matmul, left transposed', () => tf.matMul(sequence(70, 9), sequence(70, 13), true)],
    ['matmul, right transposed', () => tf.matMul(sequence(9, 70), sequence(13, 70), false, true)],
    ['matmul, both transposed', () => tf.matMul(sequence(70, 9), sequence(13, 70), true, true)],
    ['matmul of many', () => tf.matMul(sequence(2, 3, 70, 9), sequence(2, 3, 9, 50))],
    ['matmul of one and many', () => tf.matMul(sequence(7, 9), sequence(3, 9, 50))],
    ['matmul over nothing', () => tf.matMul(tf.zeros([3, 0]), tf.zeros([0, 4]))],
    ['sum of all', () => tf.sum(tf.abs(sequence(20_000)))],
    ['mean of all', () => tf.mean(x)],
    ['sum of the last axis', () => tf.sum(x, -1)],
    ['mean of inner axes', () => tf.mean(x, [1, 2])],
    ['mean of inner axes, kept', () => tf.mean(sequence(9, 4, 5, 6), [2, 1], true)],
    ['sum of the first axis', () => tf.sum(x, 0)],
    ['sum of axes apart', () => tf.sum(x, [0, 2])],
    ['sum of integers', () => tf.sum(tf.range(0, 9, 1, 'int32'))],
    ['mean of nothing', () => tf.mean(tf.zeros([0]))],
    ['softmax', () => tf.softmax(tf.mul(x, 30))],
    ['softmax of what overflows', () => tf.softmax(tf.tensor2d([[1e38, 1, -1e38]]))],
    ['logSoftmax', () => tf.logSoftmax(tf.mul(x, 30))],
    ['exp', () => tf.exp(tf.tensor1d([-Infinity, -200, -87, -1, -0, 0, 1e-3, 1, 50, 88, 89, 1e38, Infinity, NaN]))],
    ['log', () => tf.log(tf.tensor1d([-1, 0, 1e-37, 0.5, 0.7, 1, 1.4, 2, 3e38, Infinity, NaN]))],
    ['log of many', () => tf.log(positive)],
    ['sqrt', () => tf.sqrt(tf.tensor1d([-1, -0, 0, 2, 1e38, Infinity, NaN]))],
    ['rsqrt', () => tf.rsqrt(tf.tensor1d([-1, 0, 2, 1e38, Infinity, NaN]))],
    ['gradient of rsqrt', () => tf.grad((x: Tensor) => tf.rsqrt(x))(positive)],
    ['avgPool', () => tf.avgPool(sequence(2, 6, 9, 5) as Tensor4D, 3, 3, 'valid')],
    ['avgPool, overlapping', () => tf.avgPool(sequence(2, 6, 9, 5) as Tensor4D, 3, 1, 'same')],
    [
      'gradient of avgPool',
      () => tf.grad((x: Tensor) => tf.square(tf.avgPool(x as Tensor4D, 2, 2, 'valid')))(sequence(2, 4, 6, 5)),
    ],
  ])('%s', (_name, fn) => {
    const [compiled, stock] = [compile(fn)(), fn()];
    expect(compiled.shape).toEqual(stock.shape);
    const values = [compiled, stock].map(tensor => [...(tensor.dataSync() as Float32Array)]);
    const special = values.map(list => list.map(value => (Number.isFinite(value) ? 0 : value)));
    expect(special[0]).toEqual(special[1]);
    const [actual, expected] = values.map(list => list.filter(Number.isFinite));
    expect(actual).toBeAllclose(expected!);
  });
});
