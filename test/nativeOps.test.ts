import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { hasGraphs, nodeBackend } from '../lib/engine/binding';
import { OPS_TABLE, opsTable } from '../lib/engine/build/opsTable';
import { attrsOf, inputNames, NATIVE_OPS, type OpName, opNamed, outputNames } from '../lib/engine/nativeOps';
import { type Tensor, tf } from '../lib/tensor/tf';
import { random } from '../lib/util/random';
import './allclose';

const NAMES = Object.keys(NATIVE_OPS) as OpName[];
const GRADIENTS = new Set(NAMES.flatMap(name => opNamed(name).gradient ?? []));

it('the table that C++ includes is the one in TypeScript: npm run ops', () => {
  expect(readFileSync(OPS_TABLE, 'utf8')).toBe(opsTable());
});

it("an op has a composition that it equals, or is another's gradient and names its inputs as that does", () => {
  for (const name of NAMES) {
    const { stock, gradient } = opNamed(name);
    expect(stock === undefined, name).toBe(GRADIENTS.has(name));
    if (!gradient) continue;
    const known = ['dy', ...inputNames(name), ...outputNames(name)];
    expect(inputNames(gradient as OpName).filter(input => !known.includes(input))).toEqual([]);
    expect(outputNames(gradient as OpName).filter(output => !inputNames(name).includes(output.slice(1)))).toEqual([]);
  }
});

/** Sizes that fit every op: rows that are a tall matmul's, channels that fill vectors and leave a rest. */
const SIZES: Record<string, number> = {
  ...{ b: 2, h: 3, w: 4, c: 20, k: 3, m: 130, n: 7, r: 2, o: 3, i: 5, H: 6, W: 8, q: 60, x: 4, y: 6, u: 6, v: 5 },
};
const LEADING = [2, 3];
const ATTRS: Record<string, number | boolean> = {
  ...{ eps: 1e-5, heads: 2, scale: 0.3, beta1: 0.9, beta2: 0.99, rest1: 0.1, rest2: 0.01, keep: true },
  ...{ gelu: true, constant_weight: false, transpose_a: false, transpose_b: false, mean: true, log: true },
};

const rng = random('native ops');

function inputsOf(name: OpName): Record<string, Tensor> {
  const declared = opNamed(name).inputs;
  const inputs = Object.fromEntries(
    inputNames(name).map(input => {
      const pattern = declared.find(each => each.startsWith(`${input}:`))!.slice(input.length + 1);
      const shape = [...pattern.replaceAll(' ', '')].flatMap(letter =>
        letter === '*' ? LEADING : /\d/.test(letter) ? Number(letter) : SIZES[letter]!,
      );
      // What stands for a variance, a root or a logarithm is positive.
      const values = Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => 0.5 + rng.uniform());
      return [input, tf.tensor(values, shape)];
    }),
  );
  if (!('variance' in inputs)) return inputs;
  const { mean, variance } = tf.moments(inputs.x!, [0, 1]);
  return { ...inputs, mean, variance };
}

function run(name: OpName, inputs: Record<string, Tensor>): Record<string, Tensor> {
  const names = outputNames(name);
  const outputs = nodeBackend().executeMultipleOutputs(
    name,
    attrsOf(nodeBackend().binding, name, { ...ATTRS, ...(name === 'LabProduct' && { gelu: false }) }),
    inputNames(name).map(input => inputs[input]!),
    names.length,
  );
  return Object.fromEntries(names.map((output, i) => [output, outputs[i]!]));
}

describe.skipIf(!hasGraphs())('the kernel of every op in the table', () => {
  it.each(NAMES.filter(name => opNamed(name).stock))('%s equals its composition, with its gradient', name => {
    const { stock, gradient } = opNamed(name);
    const attrs = { ...ATTRS, ...(name === 'LabProduct' && { gelu: false }) };
    const inputs = inputsOf(name);
    const outputs = run(name, inputs);
    const expected = stock!(inputs, attrs);
    expected.forEach((tensor, i) => expect(outputs[outputNames(name)[i]!]).toBeAllclose(tensor));
    if (!gradient) return;
    const backward = gradient as OpName;
    const by = outputNames(backward).map(output => output.slice(1));
    const dy = tf.tensor(
      Float32Array.from({ length: expected[0]!.size }, () => rng.normal()),
      expected[0]!.shape,
    );
    const grads = tf.grads(
      (...args: Tensor[]) =>
        stock!({ ...inputs, ...Object.fromEntries(by.map((key, i) => [key, args[i]!])) }, attrs)[0]!,
    )(
      by.map(input => inputs[input]!),
      dy,
    );
    const computed = run(backward, { dy, ...inputs, ...outputs });
    by.forEach((input, i) => expect(computed[`d${input}`], input).toBeAllclose(grads[i]!));
  });
});
