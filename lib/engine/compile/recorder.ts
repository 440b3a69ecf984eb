import type { Tensor } from '../../tensor/tf';
import type { Attr, Binding, NativeGraph, Values } from '../binding';
import { addNode, dtypeOf, type Node, type Output } from './ir';
import { callerLine, TraceError } from './traceError';

/** An op of tfjs-node's as graphs want it: its `Add` is the old op that TensorFlow's fusions pass over; matmuls need no batch. */
function canonical(
  op: string,
  attrs: readonly Attr[],
  inputs: readonly Output[],
): { op: string; attrs: readonly Attr[] } {
  if (op === 'Add') return { op: 'AddV2', attrs };
  if (op === 'BatchMatMulV2' && inputs.every(({ node, index }) => node.outputs[index]!.shape.length === 2)) {
    const renamed: Record<string, string> = { adj_x: 'transpose_a', adj_y: 'transpose_b' };
    return { op: 'MatMul', attrs: attrs.map(attr => ({ ...attr, name: renamed[attr.name] ?? attr.name })) };
  }
  // tfjs-node casts integers before it takes their mean, but names their old type; only eager TensorFlow overlooks that.
  if (op === 'Mean')
    return { op, attrs: attrs.map(attr => (attr.name === 'T' ? { ...attr, value: dtypeOf(inputs[0]!) } : attr)) };
  return { op, attrs };
}

/** Bytes of a constant up to which equal ones become one node. */
const SMALL = 64;

/** The nodes of a graph in the making, whose shapes TensorFlow infers as they come. */
export class Recorder {
  readonly inputs: Node[] = [];
  /** A graph of TensorFlow's, kept for its shape inference alone. */
  private readonly oracle: NativeGraph;
  /** The oracle's names of each node's outputs. */
  private readonly native = new Map<Node, number[]>();

  /** Small constants by what they hold: gradients and layers of tfjs make the same scalars, shapes and axes over and over. */
  private readonly constants = new Map<string, Output>();

  constructor(private readonly real: Binding) {
    this.oracle = real.graphNew();
  }

  dispose(): void {
    this.real.graphDelete(this.oracle);
  }

  placeholder(tensor: Tensor, name?: string): Output {
    const dtype = {
      float32: this.real.TF_FLOAT,
      int32: this.real.TF_INT32,
      bool: this.real.TF_BOOL,
      complex64: this.real.TF_COMPLEX64,
      string: this.real.TF_STRING,
    }[tensor.dtype];
    if (dtype === this.real.TF_STRING)
      throw new TraceError(
        `A tensor of strings can't be an input of a graph${callerLine()}: allowed are float32, int32, bool and complex64.`,
      );
    const { TF_ATTR_TYPE, TF_ATTR_SHAPE } = this.real;
    const node: Node = {
      op: 'Placeholder',
      inputs: [],
      outputs: [{ dtype, shape: [...tensor.shape] }],
      name: name ?? `input_${this.inputs.length}`,
      attrs: [
        { name: 'dtype', type: TF_ATTR_TYPE, value: dtype },
        { name: 'shape', type: TF_ATTR_SHAPE, value: [...tensor.shape] },
      ],
    };
    this.inputs.push(node);
    this.record(node);
    return { node, index: 0 };
  }

  constant(shape: readonly number[], dtype: number, values: Values): Output {
    if (!ArrayBuffer.isView(values))
      throw new TraceError(`A tensor of strings can't be a constant of a graph${callerLine()}.`);
    const { buffer, byteOffset, byteLength } = values;
    const content =
      byteLength <= SMALL &&
      `${dtype}[${shape.join()}]${Buffer.from(buffer, byteOffset, byteLength).toString('latin1')}`;
    const known = content !== false && this.constants.get(content);
    if (known) return known;
    const node: Node = { op: 'Const', attrs: [], inputs: [], outputs: [{ dtype, shape: [...shape] }], values };
    this.record(node);
    const output = { node, index: 0 };
    if (content !== false) this.constants.set(content, output);
    return output;
  }

  negative(x: Output): Output {
    const attrs: Attr[] = [{ name: 'T', type: this.real.TF_ATTR_TYPE, value: dtypeOf(x) }];
    const node: Node = { op: 'Neg', attrs, inputs: [x], outputs: [{ ...x.node.outputs[x.index]! }] };
    this.record(node);
    return { node, index: 0 };
  }

  /** An op as tfjs-node asks for it, and the first `count` of its outputs. */
  op(op: string, attrs: readonly Attr[], inputs: Output[], count: number): Node {
    const node: Node = { ...canonical(op, attrs, inputs), inputs, outputs: [] };
    node.outputs = this.recordOp(node)
      .slice(0, count)
      .map(({ dtype, shape }) => {
        if (!shape || shape.includes(-1))
          throw new TraceError(
            `The shape of ${op}'s result depends on values${callerLine()}: a graph needs it beforehand.`,
          );
        if (dtype === this.real.TF_INT64 || dtype === this.real.TF_UINT8) {
          throw new TraceError(
            `${op} gives 64- or 8-bit integers, which tfjs takes for int32${callerLine()}: cast to int32 inside the op, or call it outside.`,
          );
        }
        return { dtype, shape };
      });
    return node;
  }

  private recordOp(node: Node) {
    try {
      return this.record(node);
    } catch (error) {
      throw new TraceError(`TensorFlow refuses ${node.op}${callerLine()}: ${(error as Error).message}`);
    }
  }

  private record(node: Node) {
    const inputs = node.inputs.map(input => this.native.get(input.node)![input.index]!);
    const outputs = addNode(this.real, this.oracle, node, inputs, `n${this.native.size}`);
    this.native.set(
      node,
      outputs.map(output => output.endpoint),
    );
    return outputs;
  }
}
