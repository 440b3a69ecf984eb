import { nodeBackend } from '../../lib/engine/binding';
import { NATIVE_OPS, type NativeOp } from '../../lib/engine/nativeOps';
import { openEngine } from '../../lib/engine/open';
import { tf } from '../../lib/tensor/tf';
import { random } from '../../lib/util/random';

/** What became of a kernel's call on inputs of random shapes, right and wrong ones. */
export interface Outcome {
  op: string;
  shapes: number[][];
  error?: string;
}

/**
 * Calls each of the lab's ops in turn, `count` times in all. Every outcome is sent before the next call, and each call is announced, so
 * that a parent knows which one ended the process.
 */
async function fuzz(count: number): Promise<void> {
  await openEngine();
  const backend = nodeBackend();
  const { TF_ATTR_INT, TF_ATTR_FLOAT, TF_ATTR_BOOL } = backend.binding;
  const ops = Object.entries<unknown>(NATIVE_OPS).map(([name, op]) => ({ name, ...(op as NativeOp) }));
  const rng = random('kernels of random shapes');
  const below = (limit: number) => Math.floor(rng.uniform() * limit);
  const oneOf = <T>(values: readonly T[]): T => values[below(values.length)]!;

  /** Shapes of all inputs, each letter a size; sizes that hang on others are mostly right by `derived`. */
  function shapesOf({ inputs }: NativeOp, heads: number): number[][] {
    const leading = Array.from({ length: below(3) }, () => oneOf([1, 2, 5, 0]));
    const sizes: Record<string, number> = {};
    const size = (letter: string): number => {
      if (/\d/.test(letter)) return Number(letter);
      sizes[letter] ??= oneOf([0, 1, 2, 3, 7, 16, 17, 36]);
      return sizes[letter];
    };
    const depthwise = inputs.some(input => input.includes('k k c 1'));
    if (depthwise) [sizes.k, sizes.c] = [oneOf([3, 5]), oneOf([16, 17, 36])];
    if (inputs.some(input => input.includes('m '))) [sizes.m, sizes.s] = [oneOf([0, 1, 128, 1260]), 1];
    if (inputs.some(input => input.includes(' q'))) {
      sizes.c = heads * oneOf([1, 5, 12]);
      sizes.q = 3 * sizes.c;
    }
    if (inputs.some(input => input.includes('*'))) sizes.r = leading.reduce((rows, size) => rows * size, 1);
    else if (inputs.some(input => input.includes('r p'))) sizes.r = 0;
    if (inputs.some(input => input.includes('H W')))
      [sizes.H, sizes.W] = [size('h') * size('r'), size('w') * size('r')];
    return inputs
      .filter(input => !input.includes('?'))
      .map(input =>
        [...input.slice(input.indexOf(':') + 1).replaceAll(' ', '')].flatMap(letter =>
          letter === '*' ? leading : [size(letter)],
        ),
      );
  }

  /** Another size, a dimension more or one less, somewhere. */
  function spoil(shapes: number[][]): void {
    const shape = oneOf(shapes);
    const change = below(3);
    if (change === 0 && shape.length) shape[below(shape.length)] = below(40);
    else if (change === 1 && shape.length) shape.pop();
    else shape.push(below(4));
  }

  for (let i = 0; i < count; i++) {
    const op = ops[i % ops.length]!;
    const heads = oneOf([1, 2, 3]);
    const shapes = shapesOf(op, heads);
    if (rng.uniform() < 0.5) spoil(shapes);
    const odd = rng.uniform() < 0.1;
    const attrs = [
      ...op.attrs.map(attr => {
        const name = attr.slice(0, attr.indexOf(':'));
        if (attr.endsWith('int')) return { name, type: TF_ATTR_INT, value: odd ? below(6) - 3 : heads };
        // An eager kernel is used again for other weights, which only a graph can promise to be constant.
        if (attr.endsWith('bool'))
          return { name, type: TF_ATTR_BOOL, value: name !== 'constant_weight' && rng.uniform() < 0.5 };
        return { name, type: TF_ATTR_FLOAT, value: rng.uniform() };
      }),
      ...op.inputs
        .filter(input => input.includes('?'))
        .map(input => ({ name: `${input.slice(0, input.indexOf('?'))}s`, type: TF_ATTR_INT, value: 0 })),
    ];
    const outcome: Outcome = { op: op.name, shapes };
    process.send!({ begins: outcome });
    tf.tidy(() => {
      try {
        for (const output of backend.executeMultipleOutputs(
          op.name,
          attrs,
          shapes.map(shape => tf.ones(shape)),
          op.outputs.length,
        ))
          output.dataSync();
      } catch (error) {
        outcome.error = (error as Error).message;
      }
    });
    process.send!({ ends: outcome });
  }
}

void fuzz(Number(process.argv[2])).then(() => process.disconnect());
