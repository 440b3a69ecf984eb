import { describe, expect, it } from 'vitest';
import { hasGraphs, nodeBackend } from '../lib/engine/binding';
import { compile } from '../lib/engine/compile/compile';
import { type Graph, reachable } from '../lib/engine/compile/ir';
import { simplify } from '../lib/engine/compile/passes/simplify';
import { trace } from '../lib/engine/compile/trace';
import * as fused from '../lib/engine/fused';
import { type Tensor, tf } from '../lib/tensor/tf';
import { random } from '../lib/util/random';
import './allclose';

const rng = random('simplify');
const normal = (shape: number[]) =>
  tf.tensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal()),
    shape,
  );

function simplifiedGraph(fn: (x: Tensor) => Tensor, x: Tensor): Graph {
  return simplify(nodeBackend().binding, trace(fn as never, [x], { capture: 'constant' }));
}

/** The ops of the simplified graph, constants left out; and the compiled result must equal the eager one. */
function simplified(fn: (x: Tensor) => Tensor, x: Tensor): string[] {
  const compiled = compile(fn, { capture: 'constant' });
  expect(compiled(x)).toBeAllclose(fn(x));
  compiled.dispose();
  return reachable(simplifiedGraph(fn, x).outputs)
    .map(node => node.op)
    .filter(op => op !== 'Const' && op !== 'Placeholder');
}

describe.skipIf(!hasGraphs())('simplifying a traced graph', () => {
  const weight = normal([6, 8]);
  const bias = normal([8]);

  it('fuses a matmul with its bias, with bias and GELU, and with bias and residual', () => {
    const x = normal([4, 6]);
    expect(simplified(x => fused.addBias(tf.matMul(x, weight), bias), x)).toEqual(['LabProduct']);
    expect(simplified(x => fused.biasGelu(tf.matMul(x, weight), bias), x)).toEqual(['LabProduct']);
    const [square, shift] = [normal([6, 6]), normal([6])];
    expect(
      simplified(
        x => tf.add(x, tf.reshape(fused.addBias(tf.matMul(tf.reshape(x, [4, 6]), square), shift), [2, 2, 6])),
        normal([2, 2, 6]),
      ).filter(op => op !== 'Reshape'),
    ).toEqual(['LabProduct']);
  });

  it('leaves a batch norm that broadcasts as it is', () => {
    const [scale, shift] = [normal([6]), normal([6])];
    const x = normal([4, 1]);
    simplified(x => fused.addBias(tf.matMul(tf.reshape(tf.add(tf.mul(x, scale), shift), [4, 6]), weight), bias), x);
    simplified(
      x => fused.addBias(tf.matMul(tf.reshape(tf.add(tf.mul(x, scale), tf.ones([4, 6])), [4, 6]), weight), bias),
      normal([1, 6]),
    );
  });

  it('fuses a matmul of few rows whose weights are no constants', () => {
    const shift = normal([4]);
    const matmul = (x: Tensor) => tf.matMul(x, tf.reshape(x, [6, 4]));
    expect(simplified(x => fused.addBias(matmul(x), shift), normal([4, 6]))).toEqual(['Reshape', 'LabProduct']);
    expect(simplified(x => fused.biasGelu(matmul(x), shift), normal([4, 6]))).toEqual(['Reshape', 'LabProduct']);
  });

  // Rows and columns around the sizes of tiles, panels and chunks, on one vector and on several.
  it.each([
    [1, 5, 1],
    [2, 7, 16],
    [3, 1, 17],
    [8, 36, 36],
    [9, 3, 48],
    [49, 12, 49],
    [130, 8, 100],
    [257, 20, 144],
  ])('multiplies %d×%d by %d columns as stock ops do', (m, k, n) => {
    const [w, b, r] = [normal([k, n]), normal([n]), normal([m, n])];
    const ops = (fn: (x: Tensor) => Tensor) => simplified(fn, normal([m, k])).filter(op => op === 'LabProduct');
    expect(ops(x => fused.addBias(tf.matMul(x, w), b))).toHaveLength(1);
    expect(ops(x => fused.biasGelu(tf.matMul(x, w), b))).toHaveLength(1);
    expect(
      ops(x => tf.add(r, tf.reshape(tf.reshape(fused.addBias(tf.matMul(x, w), b), [1, m, n]), [m, n]))),
    ).toHaveLength(1);
    expect(
      ops(x => tf.add(tf.reshape(r, [1, m, n]), tf.reshape(fused.addBias(tf.matMul(x, w), b), [1, m, n]))),
    ).toHaveLength(1);
  });

  it('leaves a matmul alone that is read twice', () => {
    const ops = simplified(
      x => {
        const product = tf.matMul(x, weight);
        return tf.mul(fused.addBias(product, bias), product);
      },
      normal([4, 6]),
    );
    expect(ops).toContain('MatMul');
    expect(ops).not.toContain('LabProduct');
  });

  it('folds batch norm into the matmul behind it', () => {
    const [scale, shift] = [normal([6]), normal([6])];
    const fn = (x: Tensor) =>
      fused.addBias(tf.matMul(tf.reshape(tf.add(tf.mul(x, scale), shift), [-1, 6]), weight), bias);
    const x = normal([2, 2, 6]);
    expect(simplified(fn, x).filter(op => op === 'LabProduct')).toHaveLength(1);
    // Nothing but a reshape is left between input and matmul: the rest depends on constants alone.
    const product = simplifiedGraph(fn, x).outputs[0]!.node;
    expect(product.inputs[0]!.node.op).toBe('Reshape');
    expect(product.inputs[0]!.node.inputs[0]!.node.op).toBe('Placeholder');
  });

  it('keeps a batch norm whose statistics are inputs', () => {
    const ops = simplified(
      x => fused.addBias(tf.matMul(tf.reshape(tf.add(tf.mul(x, tf.mean(x, [0, 1])), 1), [-1, 6]), weight), bias),
      normal([2, 2, 6]),
    );
    expect(ops).toContain('Mul');
  });

  it('takes a skip around a depthwise convolution into its kernel', () => {
    const [kernel, shift] = [normal([3, 3, 20, 1]), normal([20])];
    const x = normal([2, 5, 6, 20]);
    expect(simplified(x => tf.add(x, fused.depthwiseConv(x, kernel, shift)), x).filter(op => op !== 'AddV2')).toEqual([
      'LabDepthwiseConv',
    ]);
    const elsewhere = simplifiedGraph(x => tf.add(tf.square(x), fused.depthwiseConv(x, kernel, shift)), x).outputs[0]!
      .node;
    expect(elsewhere.op).toBe('AddV2');
  });

  describe('joins residuals to the kernels of their branches, forward and backward', () => {
    const [w1, b1, w2, b2] = [normal([36, 50]), normal([50]), normal([50, 36]), normal([36])];
    const [gain, shift, scale] = [normal([36]), normal([36]), tf.tensor1d([0, 1.25])];
    const norms = {
      LayerNorm: (x: Tensor) => fused.layerNorm(x, gain, shift, 1e-5),
      BatchNorm: (x: Tensor) => fused.batchNorm(x, gain, shift, 1e-5).y,
    };
    const square = normal([36, 36]);
    const branches = {
      Product: (x: Tensor) => fused.product(x, square, b2),
      FeedForward: (x: Tensor) => fused.feedForward(x, w1, b1, w2, b2),
    };
    const joins = {
      plain: (x: Tensor, branch: Tensor) => tf.add(x, branch),
      'drop path': (x: Tensor, branch: Tensor) => fused.addScaled(x, branch, scale),
    };
    const cases = Object.keys(norms).flatMap(norm =>
      Object.keys(branches).flatMap(branch => Object.keys(joins).map(join => [norm, branch, join] as const)),
    );

    it.each(cases)('%s, %s, %s', (norm, branch, join) => {
      const block = (x: Tensor) => {
        const rows = branches[branch as keyof typeof branches](
          tf.reshape(norms[norm as keyof typeof norms](x), [-1, 36]),
        );
        return joins[join as keyof typeof joins](x, tf.reshape(rows, x.shape));
      };
      const ops = simplified(x => tf.grad((x: Tensor) => tf.sum(tf.square(block(x))))(x), normal([2, 32, 33, 36]));
      expect(ops).toEqual(expect.arrayContaining([`Lab${branch}`, `Lab${branch}Grad`, `Lab${norm}Grad`]));
      expect(ops).not.toContain('AddV2');
      expect(ops).not.toContain('LabAddScaled');
    });

    it('but not where what is added depends on the kernel', () => {
      const ops = simplified(
        x => {
          const rows = fused.product(x, square, b2);
          return tf.add(tf.relu(rows), rows);
        },
        normal([200, 36]),
      );
      expect(ops).toEqual(['LabProduct', 'Relu', 'AddV2']);
    });
  });

  it('drops casts that change nothing', () => {
    const clipped = (x: Tensor) => tf.grad((x: Tensor) => tf.sum(tf.clipByValue(x, -1, 1)))(x);
    expect(simplified(clipped, normal([8])).filter(op => op === 'Cast')).toEqual([]);
    expect(simplified(x => tf.cast(tf.cast(x, 'int32'), 'float32'), normal([8]))).toEqual(['Cast', 'Cast']);
  });

  it('merges reshapes, and drops those that change nothing', () => {
    expect(simplified(x => tf.square(tf.reshape(tf.reshape(x, [3, 4]), [2, 6])), normal([12]))).toEqual([
      'Reshape',
      'Square',
    ]);
    expect(simplified(x => tf.square(tf.reshape(x, [12])), normal([12]))).toEqual(['Square']);
    expect(simplified(x => tf.square(tf.reshape(tf.unstack(x)[1]!, [4])), normal([2, 4]))).toEqual([
      'Unpack',
      'Square',
    ]);
  });
});
