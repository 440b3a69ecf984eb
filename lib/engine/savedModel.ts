import { join } from 'node:path';
import { withStockOps } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import type { StaticTree, Tree } from '../tensor/tree';
import { oneOf, UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { newFolder } from '../util/folders';
import { hasGraphs, nodeBackend } from './binding';
import { BATCHES, unify } from './compile/dynamicBatch';
import { dtypeOf, type Output, serialise, shapeOf } from './compile/ir';
import { trace } from './compile/trace';
import type { Trace } from './compile/tracer';

/**
 * The inputs of an exported function by name. A first dimension of −1 is a batch of any size, the same for all inputs that have one;
 * all other dimensions are fixed.
 */
export type Signature = Record<string, { shape: readonly number[]; dtype: 'float32' | 'int32' | 'bool' }>;

/** Other names that people write for a dtype, each as TensorFlow, NumPy, PyTorch or JavaScript has it. */
const DTYPES: Record<string, Signature[string]['dtype']> = {
  ...{ float32: 'float32', float: 'float32', f32: 'float32', number: 'float32' },
  ...{ int32: 'int32', int: 'int32', i32: 'int32' },
  ...{ bool: 'bool', boolean: 'bool' },
};

type NamedTensors = Record<string, Tensor>;

/**
 * Writes a function of named tensors as a SavedModel: in Python `tf.saved_model.load(dir).signatures['serving_default'](**inputs)`.
 * Its results are named by their keys (nested ones joined by `_`), and `output_0`, `output_1`, … where they have none.
 * It holds TensorFlow's own ops only, and the values of all that the function captured (weights above all).
 *
 * Throws UserError where `dir` is not a new or empty folder, where a name could not be a keyword argument in Python, and on
 * an engine without graphs; TraceError where the function can't be traced, or assigns variables.
 */
export function exportSavedModel(dir: string, fn: (inputs: NamedTensors) => Tree, signature: Signature): void {
  if (!hasGraphs()) throw new UserError('A SavedModel can be exported with the native engine only: npm run setup.');
  const { folder, keep, discard } = newFolder(dir, 'a SavedModel');
  try {
    writeFileAtomic(join(folder, 'saved_model.pb'), savedModelOf(fn, signature));
    keep();
  } finally {
    discard();
  }
}

function refuseName(name: string): void {
  if (!/^[A-Za-z]\w*$/.test(name))
    throw new UserError(
      `'${name}' can't name an input or output of a SavedModel: allowed are letters, digits and _, a letter first.`,
    );
}

/** A signature's shape and dtype, checked. */
function specOf(
  name: string,
  { shape, dtype }: Signature[string],
): { shape: readonly number[]; dtype: Signature[string]['dtype'] } {
  const known =
    DTYPES[
      String(dtype)
        .toLowerCase()
        .replace(/^(tf|torch|np)\./, '')
    ];
  if (!known)
    throw new UserError(
      `The input '${name}' has the dtype '${dtype}': allowed are ${oneOf(['float32', 'int32', 'bool'])}.`,
    );
  const sizes = [...shape].map(size => size ?? -1); // null, as Keras writes it
  if (sizes.some((size, axis) => !Number.isInteger(size) || size < (axis ? 0 : -1)))
    throw new UserError(
      `The input '${name}' has the shape [${[...shape].join(', ')}]: allowed are sizes from 0, and −1 for the batch in the first place.`,
    );
  return { shape: sizes, dtype: known };
}

/** The names of a function's results. */
function namesOf(result: StaticTree, path: readonly (string | number)[] = []): string[] {
  if (result instanceof tf.Tensor) return [path.length ? path.join('_') : 'output_0'];
  const own = Array.isArray(result)
    ? result.map((child: StaticTree, i) => [child, path.length ? i : `output_${i}`] as const)
    : Object.entries(result ?? {}).map(([key, child]) => [child as StaticTree, key] as const);
  return own.flatMap(([child, key]) => namesOf(child, [...path, key]));
}

function savedModelOf(fn: (inputs: NamedTensors) => Tree, signature: Signature): Uint8Array {
  const { binding } = nodeBackend();
  const inputNames = Object.keys(signature);
  inputNames.forEach(refuseName);
  const specs = inputNames.map(name => specOf(name, signature[name]!));
  const isDynamic = specs.map(({ shape }) => shape[0] === -1);
  const traceFor = (batch: number): Trace => {
    const examples: NamedTensors = {};
    for (const [i, { shape, dtype }] of specs.entries())
      examples[inputNames[i]!] = tf.zeros(
        shape.map(size => (size < 0 ? batch : size)),
        dtype,
      );
    try {
      return withStockOps(() =>
        trace(fn as never, [examples], {
          capture: 'constant',
          inputNames: inputNames.map(name => `serving_default_${name}`),
        }),
      );
    } finally {
      tf.dispose(examples);
    }
  };
  const traces = isDynamic.includes(true) ? BATCHES.map(traceFor) : [traceFor(1)];
  const graph = traces.length > 1 ? unify(binding, traces, isDynamic) : traces[0]!;
  const outputNames = namesOf(traces[0]!.result);
  outputNames.forEach(refuseName);
  const twice = outputNames.find((name, i) => outputNames.indexOf(name) !== i);
  if (twice) throw new UserError(`Two results would be named '${twice}' in the SavedModel: give one another key.`);
  const { graphDef, feeds, fetches } = serialise(binding, graph);
  return encode(
    binding.TF_Version,
    graphDef,
    graph.inputs.map((node, i) => tensorInfo(inputNames[i]!, feeds[i]!, { node, index: 0 })),
    graph.outputs.map((output, i) => tensorInfo(outputNames[i]!, fetches[i]!, output)),
  );
}

// The few messages around the GraphDef, by the field numbers of tensorflow/core/protobuf/{saved_model,meta_graph}.proto.

function encode(version: string, graphDef: Uint8Array, inputs: Uint8Array[], outputs: Uint8Array[]): Uint8Array {
  const signature = [
    ...inputs.map(input => field(1, input)),
    ...outputs.map(output => field(2, output)),
    field(3, 'tensorflow/serving/predict'),
  ];
  const metaGraph = [
    field(1, field(4, 'serve'), field(5, version)),
    field(2, graphDef),
    field(5, field(1, 'serving_default'), field(2, ...signature)),
  ];
  return Buffer.concat([integer(1, 1), field(2, ...metaGraph)]);
}

/** An entry of a signature's map of TensorInfo. */
function tensorInfo(key: string, tensorName: string, output: Output): Uint8Array {
  const shape = shapeOf(output).map(size => field(2, integer(1, size)));
  return Buffer.concat([
    field(1, key),
    field(2, field(1, tensorName), integer(2, dtypeOf(output)), field(3, ...shape)),
  ]);
}

/** A field that holds a text, or a message made of fields. */
function field(number: number, ...parts: (string | Uint8Array)[]): Uint8Array {
  const body = Buffer.concat(parts.map(part => (typeof part === 'string' ? Buffer.from(part) : part)));
  return Buffer.concat([Uint8Array.from([...varint((number << 3) | 2), ...varint(body.length)]), body]);
}

function integer(number: number, value: number): Uint8Array {
  return Uint8Array.from([...varint(number << 3), ...varint(value)]);
}

/** Negative ones as two's complement of 64 bits. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return [...bytes, Number(rest)];
}
