import protobuf from 'protobufjs/light';
import messages from './messages.json';

/** Element types of ONNX (TensorProto.DataType), as far as models here have them, and the arrays that hold them. */
export const ELEMENT_TYPES = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, float16: 10 } as const;

export type ElementType = keyof typeof ELEMENT_TYPES;

/** An attribute: a list of integers, one integer, or a float. */
export type Attribute = readonly number[] | number | { float: number } | string;

export interface OnnxNode {
  op: string;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Record<string, Attribute>;
}

/** A constant. float16 is held as its bits. */
export interface Initializer {
  type: ElementType;
  shape: readonly number[];
  data: Float32Array | Uint8Array | Int8Array | Int32Array | BigInt64Array | Uint16Array;
}

export interface OnnxValue {
  name: string;
  type: ElementType;
  /** Text names a size that is not fixed; without a shape whoever reads the file infers it. */
  shape?: readonly (number | string)[];
}

/** A model as ONNX has it, in order of computation. */
export interface OnnxGraph {
  name: string;
  opset: number;
  nodes: readonly OnnxNode[];
  initializers: ReadonlyMap<string, Initializer>;
  inputs: readonly OnnxValue[];
  outputs: readonly OnnxValue[];
  metadata: Record<string, string>;
}

/** The version of the file format that first had an operator set (onnx's table of versions). */
const IR_VERSIONS: Record<number, number> = { 17: 8, 18: 8, 19: 9, 20: 9, 21: 10 };

export const OPSETS = Object.keys(IR_VERSIONS).map(Number);

/** The nodes that the outputs need. */
export function withoutDeadNodes(nodes: readonly OnnxNode[], outputs: readonly string[]): OnnxNode[] {
  const needed = new Set(outputs);
  const kept = nodes.toReversed().filter(node => {
    const isNeeded = node.outputs.some(name => needed.has(name));
    if (isNeeded) for (const name of node.inputs) needed.add(name);
    return isNeeded;
  });
  return kept.reverse();
}

let root: protobuf.Root | undefined;

/** The bytes of an `.onnx` file. `messages.json` holds the messages of onnx.proto (onnx 1.20) that are written here. */
export function encodeOnnx(graph: OnnxGraph): Uint8Array {
  root ??= protobuf.Root.fromJSON(messages);
  const type = root.lookupType('onnx.ModelProto');
  const used = new Set(graph.nodes.flatMap(({ inputs }) => inputs));
  const model = {
    ir_version: IR_VERSIONS[graph.opset],
    producer_name: 'EdgeViT Lab',
    opset_import: [{ domain: '', version: graph.opset }],
    metadata_props: Object.entries(graph.metadata).map(([key, value]) => ({ key, value })),
    graph: {
      name: graph.name,
      node: graph.nodes.map(({ op, inputs, outputs, attributes }) => ({
        name: outputs[0],
        op_type: op,
        input: inputs,
        output: outputs,
        attribute: Object.entries(attributes).map(([name, value]) => ({ name, ...attribute(value) })),
      })),
      initializer: [...graph.initializers]
        .filter(([name]) => used.has(name))
        .map(([name, { type, shape, data }]) => ({
          name,
          data_type: ELEMENT_TYPES[type],
          dims: shape,
          raw_data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        })),
      input: graph.inputs.map(valueInfo),
      output: graph.outputs.map(valueInfo),
    },
  };
  return type.encode(model).finish();
}

/** By AttributeProto.AttributeType. */
function attribute(value: Attribute): object {
  if (typeof value === 'string') return { type: 3, s: Buffer.from(value) };
  if (typeof value === 'number') return { type: 2, i: value };
  return 'float' in value ? { type: 1, f: value.float } : { type: 7, ints: value };
}

function valueInfo({ name, type, shape }: OnnxValue): object {
  const dim = shape?.map(size => (typeof size === 'number' ? { dim_value: size } : { dim_param: size }));
  return { name, type: { tensor_type: { elem_type: ELEMENT_TYPES[type], ...(dim && { shape: { dim } }) } } };
}
