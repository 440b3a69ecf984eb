import { describe, expect, it } from 'vitest';
import { hasGraphs, nodeBackend } from '../lib/engine/binding';
import * as fused from '../lib/engine/fused';
import { compile } from '../lib/engine/graph';
import { reachable, type Graph } from '../lib/engine/ir';
import { simplify } from '../lib/engine/simplify';
import { tf, type Tensor } from '../lib/engine/tf';
import { trace } from '../lib/engine/trace';
import { random } from '../lib/random';
import './allclose';

const rng = random('simplify');
const normal = (shape: number[]) => tf.tensor(Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal()), shape);

function simplifiedGraph(fn: (x: Tensor) => Tensor, x: Tensor): Graph {
  return simplify(nodeBackend().binding, trace(fn as never, [x], { capture: 'constant' }));
}

/** The ops of the simplified graph, constants left out; and the compiled result must equal the eager one. */
function simplified(fn: (x: Tensor) => Tensor, x: Tensor): string[] {
  const compiled = compile(fn, { capture: 'constant' });
  expect(compiled(x)).toBeAllclose(fn(x));
  compiled.dispose();
  return reachable(simplifiedGraph(fn, x).outputs).map(node => node.op).filter(op => op !== 'Const' && op !== 'Placeholder');
}

describe.skipIf(!hasGraphs())('simplifying a traced graph', () => {
  const weight = normal([6, 8]);
  const bias = normal([8]);

  it('fuses a product with its bias, and with bias and GELU', () => {
    expect(simplified(x => fused.addBias(tf.matMul(x, weight), bias), normal([4, 6]))).toEqual(['_FusedMatMul']);
    expect(simplified(x => fused.biasGelu(tf.matMul(x, weight), bias), normal([4, 6]))).toEqual(['_FusedMatMul']);
  });

  it('leaves a product alone that is read twice', () => {
    const ops = simplified(x => {
      const product = tf.matMul(x, weight);
      return tf.mul(fused.addBias(product, bias), product);
    }, normal([4, 6]));
    expect(ops).toContain('MatMul');
    expect(ops).not.toContain('_FusedMatMul');
  });

  it('folds batch norm into the product behind it', () => {
    const [scale, shift] = [normal([6]), normal([6])];
    const fn = (x: Tensor) => fused.addBias(tf.matMul(tf.reshape(tf.add(tf.mul(x, scale), shift), [-1, 6]), weight), bias);
    const x = normal([2, 2, 6]);
    expect(simplified(fn, x).filter(op => op === '_FusedMatMul')).toHaveLength(1);
    // Nothing but a reshape is left between input and product: the rest depends on constants alone.
    const product = simplifiedGraph(fn, x).outputs[0]!.node;
    expect(product.inputs[0]!.node.op).toBe('Reshape');
    expect(product.inputs[0]!.node.inputs[0]!.node.op).toBe('Placeholder');
  });

  it('keeps a batch norm whose statistics are inputs', () => {
    const ops = simplified(x => fused.addBias(tf.matMul(tf.reshape(tf.add(tf.mul(x, tf.mean(x, [0, 1])), 1), [-1, 6]), weight), bias), normal([2, 2, 6]));
    expect(ops).toContain('Mul');
  });

  it('merges reshapes, and drops those that change nothing', () => {
    expect(simplified(x => tf.square(tf.reshape(tf.reshape(x, [3, 4]), [2, 6])), normal([12]))).toEqual(['Reshape', 'Square']);
    expect(simplified(x => tf.square(tf.reshape(x, [12])), normal([12]))).toEqual(['Square']);
    expect(simplified(x => tf.square(tf.reshape(tf.unstack(x)[1]!, [4])), normal([2, 4]))).toEqual(['Unpack', 'Square']);
  });
});
