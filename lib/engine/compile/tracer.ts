import type * as TensorFlow from '@tensorflow/tfjs';
import { type Tensor, tf } from '../../tensor/tf';
import { flatten, type StaticTree, unflatten } from '../../tensor/tree';
import {
  type Attr,
  type Binding,
  type NodeBackend,
  nodeBackend,
  type TensorHandle,
  type TensorRecord,
} from '../binding';
import { type Captured, rateOf, rateTensorOf, type Seed, seedOf, tensorOf, variableOf } from './captured';
import { type Graph, load, type Output, reachable } from './ir';
import { areUnchanged, marker, type Optimizer, patchOptimizers, settingsOf } from './optimizers';
import { override } from './override';
import { patchHost, patchKernels, patchLayers } from './patches';
import { core, randomOps } from './randomOps';
import { Recorder } from './recorder';
import { callerLine, TraceError } from './traceError';

/** What a traced function gives: tensors, in which `undefined` and `null` may stand, or nothing. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function without a return statement has this type
export type Result = StaticTree | void;

export interface Trace extends Graph {
  /** What the function captured, in the order of the inputs that follow its arguments. */
  captured: Captured[];
  /** The variables and tensors whose values were frozen into the graph. */
  frozen: Tensor[];
  /** Variables that the function assigned; their new values are the last outputs. */
  assigned: TensorFlow.Variable[];
  /** How many iterations each optimizer made. */
  iterations: Map<Optimizer, number>;
  /** Whether the numbers that were read on the host are still the same, so that the graph is still the function. */
  isCurrent(): boolean;
  /** The seed, where the function drew random numbers by it. */
  seed?: Seed;
  /** The function's result, with tensors that must not be used, for its structure. */
  result: StaticTree;
}

export interface TraceOptions {
  capture: 'input' | 'constant';
  inputNames?: readonly string[];
  /** By which random ops without a seed of their own draw; without it they are refused. */
  seed?: Seed;
  /** What the function captures and the last arguments stand for, by the keys of another trace. */
  bound?: readonly object[];
}

/** tfjs's engine, as far as tracing touches it. */
interface Engine {
  state: {
    registeredVariables: Record<string, TensorFlow.Variable>;
    tensorInfo: { has(dataId: object): boolean };
    gradientDepth: number;
    kernelDepth: number;
    activeTape: unknown;
  };
  runKernel(name: string, inputs: Record<string, unknown>, attrs?: object): Tensor | Tensor[];
  disposeTensor(tensor: Tensor): void;
  disposeVariable(variable: TensorFlow.Variable): void;
  setBackend(name: string): Promise<boolean>;
  moveData(backend: unknown, dataId: object): void;
  trackTensor(tensor: Tensor, backend: unknown): void;
  makeVariable(initial: Tensor, ...options: unknown[]): TensorFlow.Variable;
  incRef(tensor: Tensor, backend: unknown): void;
  nextTensorId(): number;
}

/** Ids that stand for outputs of traced nodes; real tensors of the addon count from 0. */
const SYMBOLIC = 2 ** 30;

/** The tensors of a function's result. */
function leavesOf(result: StaticTree): Tensor[] {
  try {
    return flatten(result, 'empty').leaves;
  } catch (error) {
    throw new TypeError(`A result of the function can't be given${callerLine()}: ${(error as Error).message}`);
  }
}

/** Runs a function on symbols instead of tensors and records every op. Nothing is computed; TensorFlow infers the shapes. */
export class Tracer {
  private readonly backend: NodeBackend = nodeBackend();
  private readonly real: Binding = this.backend.binding;
  private readonly engine = tf.engine() as unknown as Engine;
  private readonly recorder = new Recorder(this.real);
  /** What the ids from SYMBOLIC on stand for; a variable until its value is first used. */
  private readonly symbols: (Output | TensorFlow.Variable)[] = [];
  private readonly byDataId = new Map<object, Output>();
  private readonly created = new WeakSet<object>();
  private readonly firstTensorId = this.engine.nextTensorId();
  /** The variables that were there before, with their data. */
  private readonly variables = new Map<TensorFlow.Variable, object>();
  /** The variables that the function makes, with their initial values. */
  private readonly newVariables = new Map<TensorFlow.Variable, Output>();
  /** The data that every variable has while the function runs, until it is assigned. */
  private readonly standIns = new Map<TensorFlow.Variable, object>();
  private readonly inputs = this.recorder.inputs;
  private readonly captured: Captured[] = [];
  private readonly frozen: Tensor[] = [];
  private readonly iterations = new Map<Optimizer, number>();
  /** The optimizers at work, with what they held before. */
  private readonly optimizers = new Map<Optimizer, string>();
  /** What constants stand for that have these values. */
  private readonly markers = new Map<number, () => Output>();
  /** Clones that the function makes of tensors from outside. */
  private readonly clones = new WeakMap<object, Tensor>();
  /** What is read from arguments in place of the outside. */
  private readonly bound = new Map<object, Output>();
  /** The tensors that the function sees as its arguments, while it runs. */
  private arguments = new Set<Tensor>();
  private seed?: Output;
  /** Clones of captured tensors, which outlive the trace. */
  private readonly own = new Set<Tensor>();
  /** Indices that tfjs-node reads only to check their range. */
  private checked?: object;

  constructor(private readonly capture: 'input' | 'constant') {}

  trace(
    fn: (...args: never[]) => Result,
    args: readonly StaticTree[],
    { inputNames, bound = [], seed }: Omit<TraceOptions, 'capture'>,
  ): Trace {
    const { leaves } = flatten(args, 'all');
    const { inputs, captured, frozen, iterations, optimizers } = this;
    const trace = { inputs, captured, frozen, iterations, isCurrent: areUnchanged(optimizers) } as Trace;
    let traced = false;
    const restore = this.patch();
    const restoreRandom =
      seed &&
      override(
        core(),
        randomOps(() => this.seedTensor((trace.seed = seed))),
      );
    try {
      leaves.forEach((leaf, i) => this.recorder.placeholder(leaf, inputNames?.[i]));
      bound.forEach((key, i) => this.bound.set(key, { node: inputs[leaves.length - bound.length + i]!, index: 0 }));
      tf.tidy(() => {
        // A tensor given twice, or captured as well, is two inputs: each argument gets a tensor of its own.
        const own = this.inputs.map(node => this.symbolicTensor({ node, index: 0 }, node.outputs[0]!));
        this.arguments = new Set(own);
        try {
          trace.result = (fn as (...args: StaticTree[]) => StaticTree)(...(unflatten(args, own) as StaticTree[]));
        } finally {
          this.arguments.clear();
        }
        if ((trace.result as unknown) instanceof Promise) {
          (trace.result as unknown as Promise<unknown>).catch(() => {}); // it may wait for a value and so reject
          throw new TraceError(
            `An async function can't be compiled${callerLine()}: it waits for values that a graph computes later.`,
          );
        }
        trace.assigned = [...this.standIns]
          .filter(([variable, dataId]) => variable.dataId !== dataId)
          .map(([variable]) => variable);
        const frozen = this.capture === 'constant' && trace.assigned[0];
        if (frozen)
          throw new TraceError(
            `The function assigns the variable '${frozen.name}', which is frozen into its graph${callerLine()}: capture it as 'input', or return the new value.`,
          );
        const results = leavesOf(trace.result);
        if (!results.length && !trace.assigned.length && !iterations.size)
          throw new TraceError(
            `The function returns no tensor and assigns no variable${callerLine()}, so that there is nothing to compute: return its results.`,
          );
        trace.outputs = [...results, ...trace.assigned].map(tensor => this.outputOf(tensor));
      });
      traced = true;
      return trace;
    } finally {
      restoreRandom?.();
      restore();
      this.recorder.dispose();
      try {
        this.initialise(leaves);
      } finally {
        if (!traced) for (const source of captured) source.dispose();
      }
    }
  }

  /** Puts symbols in the place of tensors; returns what undoes it. */
  private patch(): () => void {
    const { backend, engine, real } = this;
    const { getInputTensorIds, move } = backend;
    const { disposeTensor, disposeVariable, makeVariable, runKernel, trackTensor } = engine;
    const made: Tensor[] = [];

    // The addon's functions are read-only properties: the whole object is replaced.
    const binding = Object.fromEntries(
      Object.getOwnPropertyNames(real).map(key => [key, real[key as keyof Binding]]),
    ) as unknown as Binding;
    binding.createTensor = (shape, dtype, values) => this.idOf(this.recorder.constant(shape, dtype, values.slice())); // JavaScript may continue writing to its array
    (binding as unknown as { runSavedModel(): never }).runSavedModel = () => {
      throw new TraceError(
        `A loaded SavedModel can't become a part of a graph${callerLine()}: call it outside, and pass its results in.`,
      );
    };
    binding.executeOp = (op, attrs, inputs, outputs) => this.execute(op, attrs, inputs, outputs);
    binding.deleteTensor = id => {
      if (id < SYMBOLIC) real.deleteTensor(id);
    };

    const restoreBackend = override(backend, {
      binding,
      getInputTensorIds: tensors =>
        tensors.map(tensor =>
          'dataId' in tensor
            ? this.idOf(this.outputOf(tensor as Tensor))
            : getInputTensorIds.call(backend, [tensor])[0]!,
        ),
      move: (dataId, values, shape, dtype, refCount) => {
        this.created.add(dataId);
        move.call(backend, dataId, values, shape, dtype, refCount);
      },
      readSync: dataId => {
        const record = backend.tensorMap.get(dataId);
        if (record?.values && this.created.has(dataId)) return record.values;
        if (dataId === this.checked) return new Int32Array(0);
        const symbol = record && this.symbols[record.id - SYMBOLIC];
        const what =
          symbol && 'node' in symbol && symbol.node.op !== 'Placeholder'
            ? `the result of ${symbol.node.op}`
            : 'a tensor from outside';
        throw new TraceError(
          `The compiled function reads the value of ${what} (dataSync, arraySync or data)${callerLine()}: it would be frozen into the graph. Return the tensor and read it outside.`,
        );
      },
    });
    const refuseDisposal = () => {
      throw new TraceError(
        `The compiled function disposes a tensor from outside${callerLine()}: dispose it after the call.`,
      );
    };
    const restoreEngine = override(engine, {
      disposeTensor: tensor => {
        const old = tensor.id < this.firstTensorId || this.arguments.has(tensor);
        if (old && !(tensor instanceof tf.Variable)) refuseDisposal(); // a variable is being assigned, and drops a symbol
        disposeTensor.call(engine, tensor);
      },
      disposeVariable: refuseDisposal,
      setBackend: name => {
        throw new TraceError(`The compiled function sets the backend '${name}'${callerLine()}: set it outside.`);
      },
      runKernel: (name, inputs, attrs) => {
        const result = runKernel.call(engine, name, inputs, attrs);
        const x = inputs.x as Tensor | undefined;
        if (name === 'Identity' && x && !Array.isArray(result)) this.clones.set(result, this.clones.get(x) ?? x);
        return result;
      },
      makeVariable: (...options) => {
        const variable = makeVariable.apply(engine, options);
        if (this.capture === 'constant') {
          disposeVariable.call(engine, variable);
          throw new TraceError(
            `The function makes the variable '${variable.name}'${callerLine()}, which would be frozen into its graph: make it before.`,
          );
        }
        this.newVariables.set(variable, this.outputOf(variable));
        disposeTensor.call(engine, variable);
        this.standIn(variable);
        return variable;
      },
      trackTensor: (tensor, owner) => {
        made.push(tensor);
        trackTensor.call(engine, tensor, owner);
      },
    });
    const restoreKernels = patchKernels(indices => (this.checked = indices));
    const restoreLayers = patchLayers();
    const restoreOptimizers = patchOptimizers(
      optimizer => this.symbolsOf(optimizer),
      optimizer => void this.iterations.set(optimizer, (this.iterations.get(optimizer) ?? 0) + 1),
    );
    const restoreHost = patchHost();
    // A gradient outside records what the compiled function does as one step, not what happens while it is traced.
    const { gradientDepth, kernelDepth, activeTape } = engine.state;
    Object.assign(engine.state, { gradientDepth: 0, kernelDepth: 0, activeTape: null });
    for (const variable of Object.values(engine.state.registeredVariables)) {
      this.variables.set(variable, variable.dataId);
      this.standIn(variable);
    }

    return () => {
      Object.assign(engine.state, { gradientDepth, kernelDepth, activeTape });
      restoreHost();
      restoreOptimizers();
      restoreLayers();
      restoreKernels();
      restoreEngine();
      for (const variable of this.standIns.keys()) {
        engine.disposeTensor(variable);
        variable.dataId = this.variables.get(variable) ?? variable.dataId;
      }
      for (const tensor of made)
        if (!tensor.isDisposed && !(tensor instanceof tf.Variable) && !this.own.has(tensor)) tensor.dispose();
      restoreBackend();
    };
  }

  /** What an optimizer reads while it works: for its rate a marker in its place, or a tensor that stands for it. */
  private symbolsOf(optimizer: Optimizer): { learningRate?: number; c?: Tensor } {
    if (!this.optimizers.has(optimizer)) this.optimizers.set(optimizer, settingsOf(optimizer));
    const symbols: { learningRate?: number; c?: Tensor } = {};
    if (this.capture === 'input' && typeof optimizer.learningRate === 'number') {
      const value = marker(this.markers.size);
      let input: Output | undefined;
      this.markers.set(value, () => (input ??= this.source(rateOf(optimizer), tf.scalar(0))));
      symbols.learningRate = value;
    }
    if (this.capture === 'input' && optimizer.c && optimizer.c.id < this.firstTensorId) {
      const output = this.source(rateTensorOf(optimizer), optimizer.c);
      symbols.c = this.symbolicTensor(output, output.node.outputs[0]!);
    }
    return symbols;
  }

  /** A tensor of tfjs that stands for an output of the graph, or for a variable. */
  private symbolicTensor(
    symbol: Output | TensorFlow.Variable,
    { dtype, shape }: { dtype: number; shape: number[] },
  ): Tensor {
    return this.backend.createOutputTensor({ id: this.idOf(symbol), dtype, shape: [...shape] });
  }

  /** Data for a variable while the function runs: a tensor that shares its real data does not change when it is assigned. */
  private standIn(variable: TensorFlow.Variable): void {
    const { dtype } = this.backend.tensorMap.get(variable.dataId)!;
    variable.dataId = this.symbolicTensor(variable, { dtype, shape: variable.shape }).dataId;
    this.engine.incRef(variable, this.backend);
    this.standIns.set(variable, variable.dataId);
  }

  private idOf(symbol: Output | TensorFlow.Variable): number {
    return SYMBOLIC + this.symbols.push(symbol) - 1;
  }

  private symbolOf(id: number): Output {
    const symbol = this.symbols[id - SYMBOLIC]!;
    if ('node' in symbol) return symbol;
    return (this.symbols[id - SYMBOLIC] = this.captureOf(symbol, this.variables.get(symbol)));
  }

  private outputOf(tensor: Tensor): Output {
    if (!this.backend.tensorMap.has(tensor.dataId)) {
      if (!this.engine.state.tensorInfo.has(tensor.dataId))
        throw new TraceError(
          `The compiled function uses or returns a tensor that was disposed${callerLine()}: tf.keep what leaves a tidy or a gradient function.`,
        );
      this.engine.moveData(this.backend, tensor.dataId); // another backend had it, as an op of tfjs would find out
      this.created.delete(tensor.dataId);
    }
    const record = this.backend.tensorMap.get(tensor.dataId)!;
    if (record.id >= SYMBOLIC) return this.symbolOf(record.id);
    let output = this.byDataId.get(tensor.dataId);
    if (!output) {
      output = this.created.has(tensor.dataId) ? this.createdOf(record) : this.captureOf(tensor);
      this.byDataId.set(tensor.dataId, output);
    }
    return output;
  }

  /** A tensor that the function made of numbers of the host. */
  private createdOf({ shape, dtype, values }: TensorRecord): Output {
    if (dtype === this.real.TF_FLOAT && values!.length === 1) {
      const value = values![0] as number;
      const rate = this.markers.get(Math.abs(value))?.();
      if (rate && value > 0) return rate;
      if (rate) return this.recorder.negative(rate);
    }
    return this.recorder.constant(shape, dtype, values!.slice());
  }

  private captureOf(tensor: Tensor, dataId = tensor.dataId): Output {
    const key = this.clones.get(tensor) ?? tensor;
    const bound = this.bound.get(key);
    if (bound) return bound;
    if (this.capture === 'constant') {
      this.frozen.push(key);
      const record = this.backend.tensorMap.get(dataId)!;
      return this.recorder.constant(tensor.shape, record.dtype, record.values ?? this.real.tensorDataSync(record.id));
    }
    if (tensor instanceof tf.Variable) return this.source(variableOf(tensor), tensor);
    const own = tf.keep(tensor.clone());
    this.own.add(own);
    return this.source(tensorOf(key, own), tensor);
  }

  private seedTensor(seed: Seed): Tensor {
    this.seed ??= this.source(seedOf(seed), tf.tensor1d([0, 0], 'int32'));
    return this.symbolicTensor(this.seed, this.seed.node.outputs[0]!);
  }

  /** An input of its own for what is read at each call. `example` has its shape and dtype. */
  private source(captured: Captured, example: Tensor): Output {
    const bound = this.bound.get(captured.key);
    if (bound) return bound;
    this.captured.push(captured);
    return this.recorder.placeholder(example);
  }

  private execute(op: string, attrs: Attr[], ids: number[], count: number): TensorHandle[] {
    const node = this.recorder.op(
      op,
      attrs,
      ids.map(id => this.symbolOf(id)),
      count,
    );
    return node.outputs.map(({ dtype, shape }, index) => ({
      id: this.idOf({ node, index }),
      dtype,
      shape: [...shape],
    }));
  }

  /** The variables that the function made, an optimizer's moments say, start with the values that it gave them. */
  private initialise(leaves: readonly Tensor[]): void {
    if (!this.newVariables.size) return;
    const sources: Tensor[] = [...leaves, ...this.captured.map(source => source.read())];
    const waiting = new Map(this.newVariables);
    while (waiting.size) {
      // One that starts from the value of another waits for the next round.
      const unknown = new Set(this.inputs.filter((_, i) => waiting.has(sources[i] as TensorFlow.Variable)));
      const ready = [...waiting].filter(([, value]) => !reachable([value]).some(node => unknown.has(node)));
      const outputs = ready.map(([, value]) => value);
      const used = new Set(reachable(outputs));
      const session = load(this.real, { inputs: this.inputs.filter(node => used.has(node)), outputs });
      const values = this.real.sessionRun(
        session,
        this.backend.getInputTensorIds(sources.filter((_, i) => used.has(this.inputs[i]!))),
      );
      this.real.sessionDelete(session);
      ready.forEach(([variable], i) => {
        const value = this.backend.createOutputTensor(values[i]!);
        variable.assign(value as never);
        value.dispose();
        waiting.delete(variable);
      });
    }
  }
}
