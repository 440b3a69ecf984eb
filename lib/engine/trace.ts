import type * as TensorFlow from '@tensorflow/tfjs';
import { nodeBackend, type Attr, type Binding, type NativeGraph, type NodeBackend, type TensorHandle, type Values } from './binding';
import { addNode, dtypeOf, type Graph, type Node, type Output } from './ir';
import { tf, type Tensor } from './tf';
import { flatten, type Tree } from './tree';

/** A function that cannot be traced: the message names the op and the line of the caller's code. */
export class TraceError extends Error {
  override name = 'TraceError';
}

export interface Trace extends Graph {
  /** What the function captured, in the order of the inputs that follow its arguments. Read anew at each call. */
  captured: Tensor[];
  /** Variables that the function assigned; their new values are the last outputs. */
  assigned: TensorFlow.Variable[];
  /** The function's result, with tensors that must not be used, for its structure. */
  result: Tree;
}

/** tfjs's engine, as far as tracing touches it. */
interface Engine {
  state: { registeredVariables: Record<string, TensorFlow.Variable> };
  disposeTensor(tensor: Tensor): void;
  disposeVariable(variable: TensorFlow.Variable): void;
  trackTensor(tensor: Tensor, backend: unknown): void;
  nextTensorId(): number;
}

/** Ids that stand for outputs of traced nodes; real tensors of the addon count from 0. */
const SYMBOLIC = 2 ** 30;

/** An op of tfjs-node's as graphs want it: its `Add` is the old op that TensorFlow's fusions pass over; products of matrices need no batch. */
export function canonical(op: string, attrs: readonly Attr[], inputs: readonly Output[]): { op: string; attrs: readonly Attr[] } {
  if (op === 'Add') return { op: 'AddV2', attrs };
  if (op === 'BatchMatMulV2' && inputs.every(({ node, index }) => node.outputs[index]!.shape.length === 2)) {
    const renamed: Record<string, string> = { adj_x: 'transpose_a', adj_y: 'transpose_b' };
    return { op: 'MatMul', attrs: attrs.map(attr => ({ ...attr, name: renamed[attr.name] ?? attr.name })) };
  }
  // tfjs-node casts integers before it takes their mean, but names their old type; only eager TensorFlow overlooks that.
  if (op === 'Mean') return { op, attrs: attrs.map(attr => attr.name === 'T' ? { ...attr, value: dtypeOf(inputs[0]!) } : attr) };
  return { op, attrs };
}

/** The line of the caller's code that led here: the first frame outside the engine and the packages. */
function callerLine(): string {
  const frames = (new Error().stack ?? '').split('\n').slice(1);
  const own = frames.find(frame => !/node_modules|node:|[\\/]lib[\\/]engine[\\/]|[\\/]tfjs[a-z-]*[\\/]/.test(frame));
  return own ? ` (${own.trim().replace(/^at /, 'at ')})` : '';
}

/** Runs a function on symbols instead of tensors and records every op. Nothing is computed; TensorFlow infers the shapes. */
class Tracer {
  private readonly backend: NodeBackend = nodeBackend();
  private readonly real: Binding = this.backend.binding;
  private readonly engine = tf.engine() as unknown as Engine;
  private readonly oracle: NativeGraph = this.real.graphNew();
  private readonly native = new Map<Node, number[]>();
  private readonly symbols: Output[] = [];
  private readonly byDataId = new Map<object, Output>();
  private readonly created = new WeakSet<object>();
  private readonly firstTensorId = this.engine.nextTensorId();
  private readonly variables = new Map<object, TensorFlow.Variable>();
  private readonly oldDataIds = new Map<TensorFlow.Variable, object>();
  private readonly inputs: Node[] = [];
  private readonly captured: Tensor[] = [];
  /** The tensors that the function sees as its arguments, while it runs. */
  private arguments = new Set<Tensor>();

  constructor(private readonly capture: 'input' | 'constant') {
    for (const variable of Object.values(this.engine.state.registeredVariables)) {
      this.variables.set(variable.dataId, variable);
      this.oldDataIds.set(variable, variable.dataId);
    }
  }

  trace(fn: (...args: never[]) => Tree, args: readonly Tree[], inputNames?: readonly string[]): Trace {
    const { leaves } = flatten(args);
    const restore = this.patch();
    try {
      leaves.forEach((leaf, i) => this.byDataId.set(leaf.dataId, this.placeholder(leaf, inputNames?.[i])));
      const trace = {} as Trace;
      tf.tidy(() => {
        // A tensor given twice, or through two names, is two inputs: each argument gets a tensor of its own.
        const own = leaves.map((leaf, i) => this.symbol({ node: this.inputs[i]!, index: 0 }, leaf));
        let next = 0;
        const replace = (tree: Tree): Tree => tree instanceof tf.Tensor ? own[next++]!
          : Array.isArray(tree) ? tree.map(replace)
          : Object.fromEntries(Object.entries(tree).map(([key, child]) => [key, replace(child as Tree)]));
        this.arguments = new Set(own);
        try {
          trace.result = (fn as (...args: Tree[]) => Tree)(...args.map(replace));
        } finally {
          this.arguments.clear();
        }
        trace.assigned = [...this.oldDataIds].filter(([variable, dataId]) => variable.dataId !== dataId).map(([variable]) => variable);
        const made = Object.values(this.engine.state.registeredVariables).find(variable => !this.oldDataIds.has(variable));
        if (made) {
          delete this.engine.state.registeredVariables[made.name];
          throw new TraceError(`The function makes the variable '${made.name}' while it is compiled: make it before, or return its value.`);
        }
        trace.outputs = [...flatten(trace.result).leaves, ...trace.assigned].map(tensor => this.fetchable(this.outputOf(tensor)));
      });
      return Object.assign(trace, { inputs: this.inputs, captured: this.captured });
    } finally {
      restore();
      this.real.graphDelete(this.oracle);
    }
  }

  private patch(): () => void {
    const { backend, engine, real } = this;
    const { getInputTensorIds, move, readSync } = backend;
    const { disposeTensor, disposeVariable, trackTensor } = engine;
    const made: Tensor[] = [];
    const { random } = Math;
    const hadOwn = (key: string) => Object.prototype.hasOwnProperty.call(backend, key);
    const own = { getInputTensorIds: hadOwn('getInputTensorIds'), move: hadOwn('move'), readSync: hadOwn('readSync') };

    // The addon's functions are read-only properties: the whole object is replaced.
    const binding = Object.create(null) as Binding;
    for (const key of Object.getOwnPropertyNames(real)) Object.assign(binding, { [key]: real[key as keyof Binding] });
    binding.createTensor = (shape, dtype, values) => this.idOf(this.constant(shape, dtype, values));
    binding.executeOp = (op, attrs, inputs, outputs) => this.execute(op, attrs, inputs, outputs);
    binding.deleteTensor = id => { if (id < SYMBOLIC) real.deleteTensor(id); };
    backend.binding = binding;

    backend.getInputTensorIds = tensors => tensors.map(tensor =>
      'dataId' in tensor ? this.idOf(this.outputOf(tensor as Tensor)) : getInputTensorIds.call(backend, [tensor])[0]!);
    backend.move = (dataId, values, shape, dtype, refCount) => {
      this.created.add(dataId);
      move.call(backend, dataId, values, shape, dtype, refCount);
    };
    backend.readSync = dataId => {
      const record = backend.tensorMap.get(dataId);
      if (record?.values && this.created.has(dataId)) return record.values;
      const op = this.byDataId.get(dataId)?.node.op ?? (record && record.id >= SYMBOLIC ? this.symbols[record.id - SYMBOLIC]!.node.op : undefined);
      const what = op === undefined || op === 'Placeholder' ? 'a tensor from outside' : `the result of ${op}`;
      throw new TraceError(`The compiled function reads the value of ${what} (dataSync, arraySync or data)${callerLine()}: it would be frozen into the graph. Return the tensor and read it outside.`);
    };
    const refuseDisposal = () => {
      throw new TraceError(`The compiled function disposes a tensor from outside${callerLine()}: dispose it after the call.`);
    };
    engine.disposeTensor = tensor => {
      if (tensor.id >= this.firstTensorId && !this.arguments.has(tensor)) return disposeTensor.call(engine, tensor);
      if (tensor instanceof tf.Variable) return; // being assigned: its old value stays until the graph has run
      return refuseDisposal();
    };
    engine.disposeVariable = refuseDisposal;
    engine.trackTensor = (tensor, owner) => {
      made.push(tensor);
      trackTensor.call(engine, tensor, owner);
    };
    Math.random = () => {
      throw new TraceError(`The compiled function draws random numbers without a seed${callerLine()}: they would be the same in every call. Pass them in as a tensor.`);
    };
    return () => {
      for (const [variable, dataId] of this.oldDataIds) {
        if (variable.dataId === dataId) continue;
        disposeTensor.call(engine, variable);
        variable.dataId = dataId;
      }
      Object.assign(engine, { disposeTensor, disposeVariable, trackTensor });
      for (const tensor of made) if (!tensor.isDisposed && !(tensor instanceof tf.Variable) && !this.captured.includes(tensor)) tensor.dispose();
      backend.binding = real;
      Math.random = random;
      Object.assign(backend, { getInputTensorIds, move, readSync });
      for (const [key, was] of Object.entries(own)) if (!was) delete (backend as unknown as Record<string, unknown>)[key];
    };
  }

  /** A tensor of tfjs that stands for an output of the graph. */
  private symbol(output: Output, like: Tensor): Tensor {
    const { dtype, shape } = output.node.outputs[output.index]!;
    const tensor = this.backend.createOutputTensor({ id: this.idOf(output), dtype, shape: [...shape] });
    if (tensor.dtype !== like.dtype) throw new TraceError(`An argument of dtype ${like.dtype} can't be an input of a graph: allowed are float32, int32, bool and complex64.`);
    return tensor;
  }

  /** TensorFlow refuses to fetch what is fed. */
  private fetchable(output: Output): Output {
    if (output.node.op !== 'Placeholder') return output;
    const node: Node = { op: 'Identity', attrs: [], inputs: [output], outputs: output.node.outputs };
    this.record(node);
    return { node, index: 0 };
  }

  private idOf(output: Output): number {
    return SYMBOLIC + this.symbols.push(output) - 1;
  }

  private outputOf(tensor: Tensor): Output {
    if (!this.backend.tensorMap.has(tensor.dataId)) throw new TraceError(`The compiled function uses or returns a tensor that was disposed${callerLine()}: tf.keep what leaves a tidy or a gradient function.`);
    const record = this.backend.tensorMap.get(tensor.dataId)!;
    if (record.id >= SYMBOLIC) return this.symbols[record.id - SYMBOLIC]!;
    let output = this.byDataId.get(tensor.dataId);
    if (!output) {
      output = this.created.has(tensor.dataId) ? this.constant(record.shape, record.dtype, record.values!) : this.captureOf(tensor);
      this.byDataId.set(tensor.dataId, output);
    }
    return output;
  }

  private captureOf(tensor: Tensor): Output {
    const variable = this.variables.get(tensor.dataId);
    if (this.capture === 'constant') {
      const record = this.backend.tensorMap.get(tensor.dataId)!;
      return this.constant(tensor.shape, record.dtype, record.values ?? this.real.tensorDataSync(record.id));
    }
    // The tensor at hand may be a clone that tfjs made inside and frees at the end of the trace: keep one of our own.
    this.captured.push(variable ?? tf.keep(tensor.clone()));
    return this.placeholder(tensor);
  }

  private placeholder(tensor: Tensor, name?: string): Output {
    const dtype = { float32: this.real.TF_FLOAT, int32: this.real.TF_INT32, bool: this.real.TF_BOOL, complex64: this.real.TF_COMPLEX64, string: this.real.TF_STRING }[tensor.dtype];
    if (dtype === this.real.TF_STRING) throw new TraceError('A tensor of strings can\'t be an input of a graph: allowed are float32, int32, bool and complex64.');
    const { TF_ATTR_TYPE, TF_ATTR_SHAPE } = this.real;
    const node: Node = {
      op: 'Placeholder', inputs: [], outputs: [{ dtype, shape: [...tensor.shape] }], name: name ?? `input_${this.inputs.length}`,
      attrs: [{ name: 'dtype', type: TF_ATTR_TYPE, value: dtype }, { name: 'shape', type: TF_ATTR_SHAPE, value: [...tensor.shape] }],
    };
    this.inputs.push(node);
    this.record(node);
    return { node, index: 0 };
  }

  private constant(shape: readonly number[], dtype: number, values: Values): Output {
    if (!ArrayBuffer.isView(values)) throw new TraceError(`A tensor of strings can't be a constant of a graph${callerLine()}.`);
    const node: Node = { op: 'Const', attrs: [], inputs: [], outputs: [{ dtype, shape: [...shape] }], values };
    this.record(node);
    return { node, index: 0 };
  }

  private execute(op: string, attrs: Attr[], ids: number[], count: number): TensorHandle[] {
    const inputs = ids.map(id => this.symbols[id - SYMBOLIC]!);
    const node: Node = { ...canonical(op, attrs, inputs), inputs, outputs: [] };
    const outputs = this.record(node).slice(0, count).map(({ dtype, shape }, index) => {
      if (!shape || shape.includes(-1)) throw new TraceError(`The shape of ${op}'s result depends on values${callerLine()}: a graph needs it beforehand.`);
      if (dtype === this.real.TF_INT64 || dtype === this.real.TF_UINT8) {
        throw new TraceError(`${op} gives 64- or 8-bit integers, which tfjs takes for int32${callerLine()}: cast to int32 inside the op, or call it outside.`);
      }
      return { dtype, shape, index };
    });
    node.outputs = outputs;
    return outputs.map(({ dtype, shape, index }) => ({ id: this.idOf({ node, index }), dtype, shape: [...shape] }));
  }

  private record(node: Node) {
    const inputs = node.inputs.map(input => this.native.get(input.node)![input.index]!);
    const outputs = addNode(this.real, this.oracle, node, inputs, `n${this.native.size}`);
    this.native.set(node, outputs.map(output => output.endpoint));
    return outputs;
  }
}

/**
 * Records what a function of tensors does as a graph of TensorFlow ops, without computing anything.
 * Throws TraceError where the result would not be the function: values read back, tensors from outside disposed, unseeded
 * random numbers, shapes that depend on values.
 */
export function trace(fn: (...args: never[]) => Tree, args: readonly Tree[], options: { capture: 'input' | 'constant'; inputNames?: readonly string[] }): Trace {
  return new Tracer(options.capture).trace(fn, args, options.inputNames);
}
