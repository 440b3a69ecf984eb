import type { Tensor } from '../../tensor/tf';
import type { Attr, Binding, NativeGraph, NativeOutput, Values } from '../binding';
import { dtypeRefusal } from '../refusals';
import { addNode, dtypeOf, type Node, type Output, reachable, shapeOf } from './ir';
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

type Outputs = Node['outputs'];

/** The nodes of a graph in the making, whose shapes TensorFlow infers as they come, once for all that are alike. */
export class Recorder {
  readonly inputs: Node[] = [];
  /** A graph of TensorFlow's, kept for its shape inference alone. */
  private readonly oracle: NativeGraph;
  /** How many nodes the oracle has been asked to add, for their names. */
  private asked = 0;
  /** The oracle's names of the outputs of those nodes that are in it as they are. */
  private readonly native = new Map<Node, number[]>();
  /** The oracle's placeholders, by what stands in for all inputs that have a dtype and a shape. */
  private readonly standIns = new Map<string, number>();
  /** What has been inferred, by all that it depends on: unrolled loops and gradients of tfjs repeat the same few ops. */
  private readonly inferred = new Map<string, Outputs>();
  /** Constants of integers, which may be shapes and axes, by number. */
  private readonly integers = new Map<Node, number>();

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
    const node: Node = {
      op: 'Placeholder',
      inputs: [],
      outputs: [{ dtype, shape: [...tensor.shape] }],
      name: name ?? `input_${this.inputs.length}`,
      attrs: this.placeholderAttrs(dtype, tensor.shape),
    };
    this.inputs.push(node);
    return { node, index: 0 };
  }

  private placeholderAttrs(dtype: number, shape: readonly number[]): Attr[] {
    const { TF_ATTR_TYPE, TF_ATTR_SHAPE } = this.real;
    return [
      { name: 'dtype', type: TF_ATTR_TYPE, value: dtype },
      { name: 'shape', type: TF_ATTR_SHAPE, value: [...shape] },
    ];
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
    if (this.isInteger(dtype)) this.integers.set(node, this.integers.size);
    const output = { node, index: 0 };
    if (content !== false) this.constants.set(content, output);
    return output;
  }

  negative(x: Output): Output {
    const attrs: Attr[] = [{ name: 'T', type: this.real.TF_ATTR_TYPE, value: dtypeOf(x) }];
    return { node: { op: 'Neg', attrs, inputs: [x], outputs: [{ ...x.node.outputs[x.index]! }] }, index: 0 };
  }

  /** An op as tfjs-node asks for it, and the first `count` of its outputs. */
  op(op: string, attrs: readonly Attr[], inputs: Output[], count: number): Node {
    const node: Node = { ...canonical(op, attrs, inputs), inputs, outputs: [] };
    return { ...node, outputs: this.outputsOf(node, count) };
  }

  private isInteger(dtype: number): boolean {
    return dtype === this.real.TF_INT32 || dtype === this.real.TF_INT64;
  }

  private outputsOf(node: Node, count: number): Outputs {
    // Most values that decide shapes are integers; those that are computed TensorFlow follows to where they come from.
    const alike = node.inputs.every(input => !this.isInteger(dtypeOf(input)) || this.integers.has(input.node));
    if (!alike) return this.checked(node, this.infer(node).slice(0, count));
    const kinds = node.inputs.map(
      input => this.integers.get(input.node) ?? `${dtypeOf(input)}[${shapeOf(input).join()}]`,
    );
    const key = `${node.op}|${count}|${JSON.stringify(node.attrs)}|${kinds.join('|')}`;
    let outputs = this.inferred.get(key);
    if (!outputs) {
      const rough = this.infer(node, input => this.standIn(input)).slice(0, count);
      if (!rough.every(isKnown)) return this.checked(node, this.infer(node).slice(0, count)); // other values decide, as those of a float range
      outputs = this.checked(node, rough);
      this.inferred.set(key, outputs);
    }
    return outputs;
  }

  private checked({ op }: Node, outputs: readonly NativeOutput[]): Outputs {
    return outputs.map(output => {
      const { dtype, shape } = output;
      if (!isKnown(output))
        throw new TraceError(
          `The shape of ${op}'s result depends on values${callerLine()}: a graph needs it beforehand.`,
        );
      if (dtype === this.real.TF_INT64 || dtype === this.real.TF_UINT8)
        throw new TraceError(
          `${op} gives 64- or 8-bit integers, which tfjs takes for int32${callerLine()}: cast to int32 inside the op, or call it outside.`,
        );
      return { dtype, shape: shape! };
    });
  }

  /** TensorFlow's inference for a node, whose inputs are in the oracle as they are, or by what stands in for them. */
  private infer(node: Node, endpointOf = (input: Output) => this.exact(input)): NativeOutput[] {
    const inputs = node.inputs.map(endpointOf);
    try {
      const outputs = addNode(this.real, this.oracle, node, inputs, `n${this.asked++}`);
      if (outputs.length) this.real.requireKernel(this.oracle, outputs[0]!.endpoint);
      return outputs;
    } catch (error) {
      const { message } = error as Error;
      const [op, line] = [node.op.replace(/V\d+$/, ''), callerLine()];
      throw new TraceError(dtypeRefusal(op, message, line) ?? `TensorFlow refuses ${node.op}${line}: ${message}`);
    }
  }

  private standIn(input: Output): number {
    if (this.integers.has(input.node)) return this.exact(input);
    const [dtype, shape] = [dtypeOf(input), shapeOf(input)];
    const key = `${dtype}[${shape.join()}]`;
    let endpoint = this.standIns.get(key);
    if (endpoint === undefined) {
      const placeholder: Node = {
        op: 'Placeholder',
        inputs: [],
        outputs: [],
        attrs: this.placeholderAttrs(dtype, shape),
      };
      endpoint = this.infer(placeholder)[0]!.endpoint;
      this.standIns.set(key, endpoint);
    }
    return endpoint;
  }

  private exact({ node, index }: Output): number {
    for (const needed of reachable([{ node, index }], known => this.native.has(known)))
      this.native.set(
        needed,
        this.infer(needed).map(output => output.endpoint),
      );
    return this.native.get(node)![index]!;
  }
}

const isKnown = ({ shape }: NativeOutput): boolean => shape !== null && !shape.includes(-1);
