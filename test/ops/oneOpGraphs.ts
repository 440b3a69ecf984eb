import { nodeBackend, type Attr, type Binding, type NativeSession, type NodeBackend, type TensorHandle, type Values } from '../../lib/engine/binding';
import { addNode, type Node } from '../../lib/engine/ir';
import { tf } from '../../lib/engine/tf';
import { canonical } from '../../lib/engine/trace';

/** A tensor of the addon, with its values where graphs hold it as a constant. */
interface Operand {
  dtype: number;
  shape: number[];
  values?: Values;
}

interface Program {
  session: NativeSession;
  /** What TensorFlow infers of the outputs before it runs: null or −1 where it depends on values. */
  inferred: { dtype: number; shape: number[] | null }[];
}

/** What was routed so far. */
export interface Routing {
  calls: number;
  graphs: number;
  ops: Set<string>;
  /** Ops whose shape depended on values at least once: the tracer refuses such calls. */
  shapeless: Set<string>;
}

/**
 * From now on each kernel call of tfjs-node runs as a graph of that one op, built as the tracer builds it: integers and
 * scalars that JavaScript makes (axes, shapes, paddings, factors) are constants, all else is fed. A call fails where
 * TensorFlow's shape inference, on which the tracer relies, contradicts the result.
 */
export function routeThroughGraphs(): Routing {
  const routing: Routing = { calls: 0, graphs: 0, ops: new Set(), shapeless: new Set() };
  const real = nodeBackend().binding;
  const binding = routed(real, routing);
  // tfjs's tests make the backend anew for each suite.
  const factory = tf.findBackendFactory('tensorflow');
  tf.removeBackend('tensorflow');
  tf.registerBackend('tensorflow', () => Object.assign(factory() as unknown as NodeBackend, { binding }) as never, 3);
  return routing;
}

function routed(real: Binding, routing: Routing): Binding {
  const operands = new Map<number, Operand>();
  const programs = new Map<string, Program>();
  const binding = Object.fromEntries(Object.getOwnPropertyNames(real).map(key => [key, real[key as keyof Binding]])) as unknown as Binding;

  binding.createTensor = (shape, dtype, values) => {
    const id = real.createTensor(shape, dtype, values);
    const constant = dtype === real.TF_INT32 || dtype === real.TF_INT64 || shape.length === 0 && dtype !== real.TF_STRING;
    operands.set(id, { shape: [...shape], dtype, values: constant ? values.slice() : undefined });
    return id;
  };
  binding.deleteTensor = id => {
    operands.delete(id);
    real.deleteTensor(id);
  };
  binding.executeOp = (op, attrs, ids, outputs) => {
    routing.calls++;
    routing.ops.add(op);
    const inputs = ids.map(id => operands.get(id)!);
    const key = JSON.stringify([op, attrs, outputs, inputs.map(({ dtype, shape, values }) => [dtype, shape, values && bytes(values)])]);
    let program = programs.get(key);
    if (!program) {
      programs.set(key, program = load(real, op, attrs, inputs, outputs));
      routing.graphs++;
      if (program.inferred.some(({ shape }) => !shape || shape.includes(-1))) routing.shapeless.add(op);
    }
    const { session, inferred } = program;
    const results = real.sessionRun(session, ids.filter((_, i) => !inputs[i]!.values));
    results.forEach((result, i) => {
      if (!agrees(inferred[i]!, result)) throw new Error(`${op}: TensorFlow infers ${JSON.stringify(inferred[i])} and gives ${JSON.stringify(result)}.`);
      operands.set(result.id, result);
    });
    return results;
  };
  return binding;
}

function load(real: Binding, op: string, attrs: Attr[], inputs: readonly Operand[], outputs: number): Program {
  const graph = real.graphNew();
  try {
    const nodes = inputs.map(({ dtype, shape, values }): Node => ({
      op: values ? 'Const' : 'Placeholder', inputs: [], outputs: [{ dtype, shape }], values,
      attrs: [{ name: 'dtype', type: real.TF_ATTR_TYPE, value: dtype }, { name: 'shape', type: real.TF_ATTR_SHAPE, value: shape }],
    }));
    const endpoints = nodes.map((node, i) => addNode(real, graph, node, [], `input_${i}`)[0]!.endpoint);
    const operands = nodes.map(node => ({ node, index: 0 }));
    const inferred = addNode(real, graph, { ...canonical(op, attrs, operands), inputs: operands, outputs: [] }, endpoints, 'result');
    const feeds = nodes.flatMap((node, i) => node.values ? [] : `input_${i}:0`);
    const fetches = Array.from({ length: outputs }, (_, i) => `result:${i}`);
    const session = real.sessionNew(real.graphDef(graph), feeds, fetches, { intraOpThreads: 1, interOpThreads: 1 });
    return { session, inferred: inferred.slice(0, outputs) };
  } finally {
    real.graphDelete(graph);
  }
}

/** Tells 0 from −0, as printed numbers don't. */
function bytes({ buffer, byteOffset, byteLength }: Values): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64');
}

function agrees(inferred: Program['inferred'][number], result: TensorHandle): boolean {
  const { dtype, shape } = inferred;
  return dtype === result.dtype && (!shape || shape.length === result.shape.length && shape.every((size, i) => size === -1 || size === result.shape[i]));
}
