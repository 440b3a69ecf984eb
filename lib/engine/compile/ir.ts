import { threadsPerOp } from '../../util/threads';
import type { Attr, Binding, NativeGraph, NativeOutput, NativeSession, Values } from '../binding';

/** An operation of a traced graph. A constant has `values`; a placeholder has neither values nor inputs. */
export interface Node {
  op: string;
  attrs: readonly Attr[];
  inputs: readonly Output[];
  outputs: readonly { dtype: number; shape: number[] }[];
  values?: Values;
  /** A name that the graph must keep (inputs and outputs of a signature). */
  name?: string;
}

export interface Output {
  node: Node;
  index: number;
}

/** A function as a graph: placeholders for its inputs, then whatever it captured, and its results. */
export interface Graph {
  inputs: Node[];
  outputs: Output[];
}

export function dtypeOf(output: Output): number {
  return output.node.outputs[output.index]!.dtype;
}

export function shapeOf(output: Output): number[] {
  return output.node.outputs[output.index]!.shape;
}

/**
 * The nodes that the outputs need, each after its inputs, without those that are `known` and what they alone need. Iterative: a
 * training step is thousands of nodes deep.
 */
export function reachable(outputs: readonly Output[], known: (node: Node) => boolean = () => false): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>();
  const stack: { node: Node; next: number }[] = [];
  const push = (node: Node) => {
    if (!seen.has(node) && !known(node)) {
      seen.add(node);
      stack.push({ node, next: 0 });
    }
  };
  for (const output of outputs) {
    push(output.node);
    while (stack.length) {
      const top = stack[stack.length - 1]!;
      const input = top.node.inputs[top.next++];
      if (input) push(input.node);
      else order.push(stack.pop()!.node);
    }
  }
  return order;
}

/** Adds one node to a native graph and returns its outputs, with the shapes that TensorFlow inferred. */
export function addNode(
  binding: Binding,
  graph: NativeGraph,
  node: Node,
  inputs: number[],
  name: string,
): NativeOutput[] {
  if (!node.values) return binding.graphOp(graph, node.op, name, node.attrs, inputs);
  const { dtype, shape } = node.outputs[0]!;
  const { values } = node;
  // A complex number is two floats; tfjs-node writes an int64 as two words.
  const words = values.length / shape.reduce((product, size) => product * size, 1);
  if (values.length <= 16 || !values.every((value, i) => Object.is(value, values[i % words])))
    return binding.graphConst(graph, name, dtype, shape, values);
  // tfjs's gradients make ones and zeros of every shape; as constants they would fill the file and the memory.
  const dims = binding.graphConst(graph, `${name}/dims`, binding.TF_INT32, [shape.length], Int32Array.from(shape))[0]!;
  const value = binding.graphConst(graph, `${name}/value`, dtype, [], values.slice(0, words))[0]!;
  return binding.graphOp(graph, 'Fill', name, [], [dims.endpoint, value.endpoint]);
}

/** TensorFlow refuses to fetch what is fed. */
function fetchable(output: Output): Output {
  const { node } = output;
  return node.op === 'Placeholder'
    ? { node: { op: 'Identity', attrs: [], inputs: [output], outputs: node.outputs }, index: 0 }
    : output;
}

/** A serialised GraphDef of the graph, and the names that feed and fetch it. Only what the outputs need is kept, and every input. */
export function serialise(binding: Binding, graph: Graph): { graphDef: Buffer; feeds: string[]; fetches: string[] } {
  const native = binding.graphNew();
  const endpoints = new Map<Node, number[]>();
  const names = new Map<Node, string>();
  const add = (node: Node) => {
    const name = node.name ?? `${node.op.replace(/^_/, '')}_${endpoints.size}`; // names of nodes may not begin so
    const inputs = node.inputs.map(input => endpoints.get(input.node)![input.index]!);
    endpoints.set(
      node,
      addNode(binding, native, node, inputs, name).map(output => output.endpoint),
    );
    names.set(node, name);
  };
  const outputs = graph.outputs.map(fetchable);
  try {
    graph.inputs.forEach(add);
    for (const node of reachable(outputs)) if (!endpoints.has(node)) add(node);
    const nameOf = ({ node, index }: Output) => `${names.get(node)!}:${index}`;
    return {
      graphDef: binding.graphDef(native),
      feeds: graph.inputs.map(node => nameOf({ node, index: 0 })),
      fetches: outputs.map(nameOf),
    };
  } finally {
    binding.graphDelete(native);
  }
}

/** The graph, ready to run. */
export function load(binding: Binding, graph: Graph): NativeSession {
  const { graphDef, feeds, fetches } = serialise(binding, graph);
  return binding.sessionNew(graphDef, feeds, fetches, threadsPerOp());
}
