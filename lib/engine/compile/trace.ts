import type * as TensorFlow from '@tensorflow/tfjs';
import { type Tensor, tf } from '../../tensor/tf';
import { flatten, type StaticTree, unflatten } from '../../tensor/tree';
import { refusingDraws } from '../../util/random';
import {
  type Attr,
  type Binding,
  type NativeGraph,
  type NodeBackend,
  nodeBackend,
  type TensorHandle,
  type TensorRecord,
  type Values,
} from '../binding';
import { addNode, dtypeOf, type Graph, load, type Node, type Output, reachable } from './ir';
import { core, randomOps } from './randomOps';

/** A function that cannot be traced: the message names the op and the line of the caller's code. */
export class TraceError extends Error {
  override name = 'TraceError';
}

/** What a traced function gives: tensors, in which `undefined` and `null` may stand, or nothing. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function without a return statement has this type
export type Result = StaticTree | void;

/** What a graph reads anew at each call, beside its arguments. */
export interface Captured {
  /** What is read, the same in every trace: the variable, the tensor as the caller holds it, or who keeps a number. */
  key: object;
  /** The value of now; it stays this object's. */
  read(): Tensor;
  dispose(): void;
}

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

/** What random numbers inside a compiled function depend on: equal seeds give equal numbers in equal calls, and each call others. */
export interface Seed {
  value: number;
  /** Calls so far. */
  calls: number;
}

/** An optimizer of tfjs, with what it keeps on the host. SGD and momentum keep the rate in the tensor `c`, the others as a number. */
interface Optimizer {
  learningRate?: number;
  c?: Tensor;
  iterations_: number | null;
  readonly iterations: number;
  incrementIterations(): void;
  applyGradients(grads: unknown): void;
}

/** tfjs's engine, as far as tracing touches it. */
interface Engine {
  state: {
    registeredVariables: Record<string, TensorFlow.Variable>;
    gradientDepth: number;
    kernelDepth: number;
    activeTape: unknown;
  };
  runKernel(name: string, inputs: Record<string, unknown>, attrs?: object): Tensor | Tensor[];
  disposeTensor(tensor: Tensor): void;
  disposeVariable(variable: TensorFlow.Variable): void;
  trackTensor(tensor: Tensor, backend: unknown): void;
  makeVariable(initial: Tensor, ...options: unknown[]): TensorFlow.Variable;
  incRef(tensor: Tensor, backend: unknown): void;
  nextTensorId(): number;
}

/** Ids that stand for outputs of traced nodes; real tensors of the addon count from 0. */
const SYMBOLIC = 2 ** 30;

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

/** The line of the caller's code that led here: the first frame outside the engine and the packages. */
export function callerLine(): string {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = Infinity; // a dozen frames of tfjs lie between
  const frames = (new Error().stack ?? '').split('\n').slice(1);
  Error.stackTraceLimit = stackTraceLimit;
  const own = frames.find(
    frame =>
      /:\d+:\d+/.test(frame) &&
      !/node_modules|node:|[\\/]lib[\\/]engine[\\/]|[\\/]tfjs[a-z-]*[\\/]src[\\/]/.test(frame),
  );
  return own ? ` (${own.trim().replace(/^at /, 'at ')})` : '';
}

/** Puts properties in front of an object's own; returns what takes them away again. */
function override<T extends object>(target: T, properties: Partial<T>): () => void {
  const own = Object.entries(Object.getOwnPropertyDescriptors(properties));
  const before = own.map(([key]) => [key, Object.getOwnPropertyDescriptor(target, key)] as const);
  for (const [key, property] of own) Object.defineProperty(target, key, property);
  return () => {
    for (const [key, property] of before) {
      if (property) Object.defineProperty(target, key, property);
      else delete target[key as keyof T];
    }
  };
}

const OPTIMIZERS = ['SGD', 'Momentum', 'Adagrad', 'Adadelta', 'Adam', 'Adamax', 'RMSProp'] as const;

/** The `applyGradients` of tfjs's own optimizers, each on the prototype that has it. */
const optimizerPrototypes = (): Optimizer[] =>
  OPTIMIZERS.map(name => (tf as unknown as Record<string, { prototype: Optimizer }>)[`${name}Optimizer`]!.prototype);

/** A number that no program has, to know a rate again that an optimizer makes a constant of: exact in float32, another for each `i`. */
const marker = (i: number) => Math.fround(1.7320508 * 2 ** -97) * (1 + i * 2 ** -20);

/** Numbers and switches of an optimizer other than its rate. */
const settingsOf = (optimizer: Optimizer): string =>
  JSON.stringify(
    Object.entries(optimizer).filter(
      ([key, value]) => !['learningRate', 'iterations_'].includes(key) && ['number', 'boolean'].includes(typeof value),
    ),
  );

// What follows makes closures that outlive the trace: apart from the tracer, which would live on in them with all its nodes.

const areUnchanged = (optimizers: ReadonlyMap<Optimizer, string>) => () =>
  [...optimizers].every(([optimizer, before]) => settingsOf(optimizer) === before);

/** A rate that an optimizer keeps as a number. */
function rateOf(optimizer: Optimizer): Captured {
  let value: number | undefined;
  let tensor: Tensor | undefined;
  return {
    key: optimizer,
    read() {
      if (!tensor || value !== optimizer.learningRate) {
        tensor?.dispose();
        value = optimizer.learningRate!;
        tensor = tf.keep(tf.scalar(value));
      }
      return tensor;
    },
    dispose: () => tensor?.dispose(),
  };
}

/** A rate that an optimizer keeps as a tensor, another one whenever it is set. */
function rateTensorOf(optimizer: Optimizer): Captured {
  return {
    key: optimizer,
    read() {
      if (optimizer.c!.isDisposed) throw new Error('An optimizer that the compiled function uses was disposed.');
      return optimizer.c!;
    },
    dispose() {},
  };
}

/** A seed as the int32 tensor [value, calls]. */
function seedOf(seed: Seed): Captured {
  let tensor: Tensor | undefined;
  return {
    key: seed,
    read() {
      tensor?.dispose();
      return (tensor = tf.keep(tf.tensor1d([seed.value, seed.calls], 'int32')));
    },
    dispose: () => tensor?.dispose(),
  };
}

function variableOf(variable: TensorFlow.Variable): Captured {
  return { key: variable, read: () => variable, dispose() {} };
}

/** A captured tensor. The one at hand may be a clone that tfjs made inside and frees at the end of the trace: `own` stays. */
function tensorOf(key: Tensor, own: Tensor): Captured {
  return { key, read: () => own, dispose: () => own.dispose() };
}

/** Runs a function on symbols instead of tensors and records every op. Nothing is computed; TensorFlow infers the shapes. */
class Tracer {
  private readonly backend: NodeBackend = nodeBackend();
  private readonly real: Binding = this.backend.binding;
  private readonly engine = tf.engine() as unknown as Engine;
  private readonly oracle: NativeGraph = this.real.graphNew();
  private readonly native = new Map<Node, number[]>();
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
  private readonly inputs: Node[] = [];
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
      leaves.forEach((leaf, i) => this.placeholder(leaf, inputNames?.[i]));
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
          throw new TraceError("An async function can't be compiled: it waits for values that a graph computes later.");
        }
        trace.assigned = [...this.standIns]
          .filter(([variable, dataId]) => variable.dataId !== dataId)
          .map(([variable]) => variable);
        const frozen = this.capture === 'constant' && trace.assigned[0];
        if (frozen)
          throw new TraceError(
            `The function assigns the variable '${frozen.name}', which is frozen into its graph: capture it as 'input', or return the new value.`,
          );
        const results = flatten(trace.result, 'empty').leaves;
        if (!results.length && !trace.assigned.length && !iterations.size)
          throw new TraceError(
            'The function returns no tensor and assigns no variable, so that there is nothing to compute: return its results.',
          );
        trace.outputs = [...results, ...trace.assigned].map(tensor => this.outputOf(tensor));
      });
      traced = true;
      return trace;
    } finally {
      restoreRandom?.();
      restore();
      this.real.graphDelete(this.oracle);
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
    binding.createTensor = (shape, dtype, values) => this.idOf(this.constant(shape, dtype, values.slice())); // JavaScript may continue writing to its array
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
    // TensorFlow checks the range of a gather's indices too, when it has them.
    const gather = tf.getKernel('GatherV2', 'tensorflow');
    const { kernelFunc } = gather;
    const restoreGather = override(gather, {
      kernelFunc: params => {
        this.checked = params.inputs.indices!.dataId;
        try {
          return kernelFunc(params);
        } finally {
          this.checked = undefined;
        }
      },
    });
    const exp = tf.getKernel('Exp', 'tensorflow');
    const exponential = exp.kernelFunc;
    const restoreExp = override(exp, {
      kernelFunc: params => {
        if (params.inputs.x!.dtype === 'int32')
          throw new TraceError(
            `tfjs-node's exp of int32 disposes its argument${callerLine()}: cast it to float32 before, tf.cast(x, 'float32').`,
          );
        return exponential(params);
      },
    });
    const restoreOptimizers = this.patchOptimizers();
    // In debug mode tfjs reads every kernel's result.
    const environment = tf.env();
    const restoreEnvironment = override(environment, {
      getBool: name => name !== 'DEBUG' && name !== 'CHECK_COMPUTATION_FOR_ERRORS' && Boolean(environment.get(name)),
    });
    const restoreMath = override(Math, {
      random: () => {
        throw new TraceError(
          `The compiled function draws random numbers without a seed${callerLine()}: they would be the same in every call. Give compile a \`seed\`, or pass them in as a tensor.`,
        );
      },
    });
    // A gradient outside records what the compiled function does as one step, not what happens while it is traced.
    const { gradientDepth, kernelDepth, activeTape } = engine.state;
    Object.assign(engine.state, { gradientDepth: 0, kernelDepth: 0, activeTape: null });
    for (const variable of Object.values(engine.state.registeredVariables)) {
      this.variables.set(variable, variable.dataId);
      this.standIn(variable);
    }

    return () => {
      Object.assign(engine.state, { gradientDepth, kernelDepth, activeTape });
      restoreMath();
      restoreEnvironment();
      restoreOptimizers();
      restoreExp();
      restoreGather();
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

  /**
   * What tfjs's optimizers keep on the host becomes an input: their rate, by a marker in its place or a tensor that stands for
   * it. Iterations are counted after each run.
   */
  private patchOptimizers(): () => void {
    const tracer = this;
    const work = (optimizer: Optimizer, apply: () => void): void => {
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
      const restore = override<{ learningRate?: number; c?: Tensor }>(optimizer, symbols);
      try {
        apply();
      } finally {
        restore();
      }
    };
    const restores = optimizerPrototypes().map(prototype => {
      const { applyGradients } = prototype;
      return override(prototype, {
        applyGradients(this: Optimizer, grads) {
          work(this, () => applyGradients.call(this, grads));
        },
      });
    });
    const restoreBase = override((tf.Optimizer as unknown as { prototype: Optimizer }).prototype, {
      incrementIterations(this: Optimizer) {
        tracer.iterations.set(this, (tracer.iterations.get(this) ?? 0) + 1);
      },
      get iterations(): number {
        throw new TraceError(
          `The compiled function reads an optimizer's iterations${callerLine()}: the number would be frozen into the graph. Pass it in as an argument.`,
        );
      },
    });
    return () => {
      restoreBase();
      for (const restore of restores.reverse()) restore();
    };
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
    if (!this.backend.tensorMap.has(tensor.dataId))
      throw new TraceError(
        `The compiled function uses or returns a tensor that was disposed${callerLine()}: tf.keep what leaves a tidy or a gradient function.`,
      );
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
      if (rate) return this.negative(rate);
    }
    return this.constant(shape, dtype, values!.slice());
  }

  private negative(x: Output): Output {
    const attrs: Attr[] = [{ name: 'T', type: this.real.TF_ATTR_TYPE, value: dtypeOf(x) }];
    const node: Node = { op: 'Neg', attrs, inputs: [x], outputs: [{ ...x.node.outputs[x.index]! }] };
    this.record(node);
    return { node, index: 0 };
  }

  private captureOf(tensor: Tensor, dataId = tensor.dataId): Output {
    const key = this.clones.get(tensor) ?? tensor;
    const bound = this.bound.get(key);
    if (bound) return bound;
    if (this.capture === 'constant') {
      this.frozen.push(key);
      const record = this.backend.tensorMap.get(dataId)!;
      return this.constant(tensor.shape, record.dtype, record.values ?? this.real.tensorDataSync(record.id));
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
    return this.placeholder(example);
  }

  private placeholder(tensor: Tensor, name?: string): Output {
    const dtype = {
      float32: this.real.TF_FLOAT,
      int32: this.real.TF_INT32,
      bool: this.real.TF_BOOL,
      complex64: this.real.TF_COMPLEX64,
      string: this.real.TF_STRING,
    }[tensor.dtype];
    if (dtype === this.real.TF_STRING)
      throw new TraceError(
        "A tensor of strings can't be an input of a graph: allowed are float32, int32, bool and complex64.",
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

  private constant(shape: readonly number[], dtype: number, values: Values): Output {
    if (!ArrayBuffer.isView(values))
      throw new TraceError(`A tensor of strings can't be a constant of a graph${callerLine()}.`);
    const node: Node = { op: 'Const', attrs: [], inputs: [], outputs: [{ dtype, shape: [...shape] }], values };
    this.record(node);
    return { node, index: 0 };
  }

  private execute(op: string, attrs: Attr[], ids: number[], count: number): TensorHandle[] {
    const inputs = ids.map(id => this.symbolOf(id));
    const node: Node = { ...canonical(op, attrs, inputs), inputs, outputs: [] };
    const outputs = this.recordOp(node)
      .slice(0, count)
      .map(({ dtype, shape }, index) => {
        if (!shape || shape.includes(-1))
          throw new TraceError(
            `The shape of ${op}'s result depends on values${callerLine()}: a graph needs it beforehand.`,
          );
        if (dtype === this.real.TF_INT64 || dtype === this.real.TF_UINT8) {
          throw new TraceError(
            `${op} gives 64- or 8-bit integers, which tfjs takes for int32${callerLine()}: cast to int32 inside the op, or call it outside.`,
          );
        }
        return { dtype, shape, index };
      });
    node.outputs = outputs;
    return outputs.map(({ dtype, shape, index }) => ({ id: this.idOf({ node, index }), dtype, shape: [...shape] }));
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

export interface TraceOptions {
  capture: 'input' | 'constant';
  inputNames?: readonly string[];
  /** By which random ops without a seed of their own draw; without it they are refused. */
  seed?: Seed;
  /** What the function captures and the last arguments stand for, by the keys of another trace. */
  bound?: readonly object[];
}

/**
 * Records what a function of tensors does as a graph of TensorFlow ops, without computing anything.
 * Throws TraceError where the result would not be the function: values read back, tensors from outside disposed, random
 * numbers that would be the same in every call, shapes that depend on values.
 */
export function trace(
  fn: (...args: never[]) => Result,
  args: readonly StaticTree[],
  { capture, ...options }: TraceOptions,
): Trace {
  const refuse = (): never => {
    throw new TraceError(
      `The compiled function draws from a random stream${callerLine()}: the numbers would be the same in every call. Pass them in as a tensor.`,
    );
  };
  tracing = true;
  try {
    return refusingDraws(refuse, () => new Tracer(capture).trace(fn, args, options));
  } finally {
    tracing = false;
  }
}

let tracing = false;

/** Whether a function is being recorded, so that compiled functions which it calls become a part of its graph. */
export function isTracing(): boolean {
  return tracing;
}
