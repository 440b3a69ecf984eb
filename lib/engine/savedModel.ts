import { readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { withStockOps } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { moveFolder, scratchFolder } from '../util/folders';
import { hasGraphs, nodeBackend } from './binding';
import { dtypeOf, type Output, serialise, shapeOf } from './compile/ir';
import { trace } from './compile/trace';

/** The inputs of an exported function by name. A graph has fixed shapes, so the batch dimension is a number like the others. */
export type Signature = Record<string, { shape: number[]; dtype: 'float32' | 'int32' | 'bool' }>;

type NamedTensors = Record<string, Tensor>;

/**
 * Writes a function of named tensors as a SavedModel: in Python `tf.saved_model.load(dir).signatures['serving_default'](**inputs)`.
 * It holds TensorFlow's own ops only, and the values of all that the function captured (weights above all).
 *
 * Throws UserError where `dir` is not a new or empty folder, where a name could not be a keyword argument in Python, and on
 * an engine without graphs; TraceError where the function can't be traced, or assigns variables.
 */
export function exportSavedModel(dir: string, fn: (inputs: NamedTensors) => NamedTensors, signature: Signature): void {
  if (!hasGraphs()) throw new UserError('A SavedModel can be exported with the native engine only: npm run setup.');
  refuseOccupied(dir);
  const savedModel = savedModelOf(fn, signature);
  const target = resolve(dir);
  const temporary = scratchFolder(dirname(target));
  try {
    writeFileAtomic(join(temporary, 'saved_model.pb'), savedModel);
    if (!moveFolder(temporary, target)) refuseOccupied(dir); // filled by another process meanwhile
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function refuseOccupied(dir: string): void {
  const found = statSync(dir, { throwIfNoEntry: false });
  if (found && !(found.isDirectory() && readdirSync(dir).length === 0))
    throw new UserError(`'${dir}' is there already: a SavedModel needs a new or empty folder.`);
}

function refuseName(name: string): void {
  if (!/^[A-Za-z]\w*$/.test(name))
    throw new UserError(
      `'${name}' can't name an input or output of a SavedModel: allowed are letters, digits and _, a letter first.`,
    );
}

function savedModelOf(fn: (inputs: NamedTensors) => NamedTensors, signature: Signature): Uint8Array {
  const { binding } = nodeBackend();
  const inputNames = Object.keys(signature);
  inputNames.forEach(refuseName);
  const examples = Object.fromEntries(
    Object.entries(signature).map(([name, { shape, dtype }]) => [name, tf.zeros(shape, dtype)]),
  );
  try {
    const graph = withStockOps(() =>
      trace(fn, [examples], { capture: 'constant', inputNames: inputNames.map(name => `serving_default_${name}`) }),
    );
    const outputNames = Object.keys(graph.result as object);
    outputNames.forEach(refuseName);
    const { graphDef, feeds, fetches } = serialise(binding, graph);
    return encode(
      binding.TF_Version,
      graphDef,
      graph.inputs.map((node, i) => tensorInfo(inputNames[i]!, feeds[i]!, { node, index: 0 })),
      graph.outputs.map((output, i) => tensorInfo(outputNames[i]!, fetches[i]!, output)),
    );
  } finally {
    tf.dispose(examples);
  }
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

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}
