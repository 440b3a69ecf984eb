import type * as TensorFlow from '@tensorflow/tfjs';
import { type Tensor, tf } from '../../tensor/tf';
import { flatten, type StaticTree, unflatten } from '../../tensor/tree';
import { random } from '../../util/random';
import { hasGraphs, type KernelTiming, type NativeSession, nodeBackend, type TensorHandle } from '../binding';
import type { Seed } from './captured';
import { BATCHES, unify } from './dynamicBatch';
import { load } from './ir';
import { ownOps } from './passes/ownOps';
import { simplify } from './passes/simplify';
import { isTracing, trace } from './trace';
import { callerLine, TraceError } from './traceError';
import type { Result, Trace, TraceOptions } from './tracer';

export type { StaticTree, Tree } from '../../tensor/tree';
export type { KernelTiming } from '../binding';
export { TraceError } from './traceError';

export interface CompileOptions {
  /**
   * What becomes of a tensor that the function captured: 'input' (default) reads it anew at each call, as training needs;
   * 'constant' freezes its value, so that TensorFlow can fold and prepack it (inference: 1.2–1.8× faster).
   */
  capture?: 'input' | 'constant';
  /**
   * For random ops inside that have no seed of their own (tf.dropout, tf.randomNormal, the layers of tf.layers), which are refused
   * without it: equal seeds give equal numbers in each call after the first, second, …, and every call others.
   */
  seed?: number;
  /**
   * The arguments, by position, whose tensors all have a batch as their first dimension: one graph, traced for several batches,
   * serves any. Without gradients from outside.
   */
  dynamicBatch?: readonly number[];
  /** Named in messages (default: the function's name). */
  name?: string;
  /** Graphs kept at once, one per shapes and dtypes of the arguments (default 8). Past it the oldest is dropped, with a warning. */
  maxSignatures?: number;
}

export type Compiled<A extends readonly StaticTree[], R extends Result> = ((...args: A) => R) & {
  /**
   * The same on another thread, which leaves the event loop free: for long steps beside a server or a live chart. Its calls run
   * one after another; a plain call meanwhile throws. Arguments may be disposed at once. The caller disposes the results.
   */
  async(...args: A): Promise<R>;
  /** One run of these arguments, kernel by kernel, by TensorFlow's own step statistics. Throws on the pure-JS backend. */
  profile(...args: A): KernelTiming[];
  /** Frees the graphs and their captured tensors. A later call traces again. */
  dispose(): void;
};

/** tfjs's engine, as far as a step of a gradient's tape touches it. */
interface Engine {
  isTapeOn(): boolean;
  runKernelFunc(step: {
    forwardFunc: (backend: unknown, save: (tensors: Tensor[]) => void) => Tensor[];
    backwardsFunc: (dys: Tensor | Tensor[], saved: Tensor[]) => Record<string, () => Tensor>;
    inputs: Record<string, Tensor>;
  }): Tensor[];
  gradients(f: () => Tensor, xs: Tensor[], dy: undefined, allowNoGradients: true): { grads: (Tensor | undefined)[] };
  moveData(backend: unknown, dataId: object): void;
}

const engine = () => tf.engine() as unknown as Engine;

/** Takes a tensor's data back that another backend has, as tfjs itself does for an op. */
function bringHere({ dataId }: Tensor): void {
  if (!nodeBackend().tensorMap.has(dataId)) engine().moveData(nodeBackend(), dataId);
}

type AnyFunction = (...args: readonly StaticTree[]) => Result;

/** One traced signature, loaded. It does not hold the function, so that it may outlive what the function belongs to. */
class Program {
  private readonly session: NativeSession;
  /** What is kept of the trace: not the graph, which is TensorFlow's now. */
  private readonly traced: Omit<Trace, 'inputs' | 'outputs'>;
  private readonly backend = nodeBackend();
  private gradient?: Program;

  constructor(
    fn: AnyFunction,
    args: readonly StaticTree[],
    options: TraceOptions,
    private readonly isDynamic: readonly boolean[] = [],
  ) {
    const { binding } = this.backend;
    const traces = isDynamic.includes(true)
      ? BATCHES.map(batch => traceForBatch(fn, args, options, isDynamic, batch))
      : [trace(fn as never, args, options)];
    const [{ inputs, outputs, ...traced }, ...others] = traces as [Trace, ...Trace[]];
    for (const source of others.flatMap(({ captured }) => captured)) source.dispose();
    const graphs = traces.map(({ inputs, outputs }) => ownOps(binding, simplify(binding, { inputs, outputs })));
    this.session = load(binding, others.length ? unify(binding, graphs, isDynamic) : graphs[0]!);
    this.traced = traced;
  }

  /** Whether the graph is still the function. */
  isCurrent(): boolean {
    return this.traced.isCurrent();
  }

  run(leaves: readonly Tensor[]): Result {
    return this.settle(this.execute(leaves, this.sources()));
  }

  /** On another thread. */
  async runAsync(leaves: readonly Tensor[]): Promise<Result> {
    const handles = await this.backend.binding.sessionRunAsync(this.session, this.feeds(leaves, this.sources()));
    return this.settle(this.tensors(handles));
  }

  profile(leaves: readonly Tensor[]): KernelTiming[] {
    return this.backend.binding.sessionProfile(this.session, this.feeds(leaves, this.sources()));
  }

  /** As one step of the gradient's tape that tfjs is recording. */
  runRecorded(
    fn: AnyFunction,
    args: readonly StaticTree[],
    leaves: readonly Tensor[],
    options: TraceOptions & { name: string },
  ): Result {
    if (this.isDynamic.includes(true))
      throw new TraceError(
        `The compiled function '${options.name}' has a dynamic batch, and so no gradient from outside: compile the gradient with it.`,
      );
    const { captured, frozen } = this.traced;
    const isFloat = ({ dtype }: Tensor) => dtype === 'float32';
    const sources = this.sources();
    const keys = captured
      .map(source => source.key)
      .filter((key): key is Tensor => key instanceof tf.Tensor && !key.isDisposed);
    const inputs = [...leaves, ...keys].filter(isFloat);
    const refused = frozen.filter(tensor => isFloat(tensor) && !tensor.isDisposed);
    let outputs!: Tensor[];
    let result: Result;
    engine().runKernelFunc({
      inputs: Object.fromEntries([...inputs, ...refused].entries()),
      forwardFunc: (_, save) => {
        save([...leaves, ...sources]); // the variables' values before they are assigned
        outputs = this.execute(leaves, sources);
        const own = outputs.slice(0, outputs.length - this.traced.assigned.length);
        result = this.settle(outputs);
        return own;
      },
      backwardsFunc: (dy, saved) => {
        if (engine().isTapeOn())
          throw new TraceError(
            `The gradient of the compiled function '${options.name}' can't be differentiated again: call the function itself there, or compile the whole.`,
          );
        const dys = [dy].flat().filter((_, i) => isFloat(outputs[i]!));
        const values = saved.slice(leaves.length);
        this.gradient ??= new Program(
          gradientOf(fn, args, keys) as unknown as AnyFunction,
          [saved.slice(0, leaves.length), dys, values],
          { ...options, bound: captured.map(source => source.key) },
        );
        const grads = this.gradient.execute(
          [...saved.slice(0, leaves.length), ...dys, ...values],
          this.gradient.sources(),
        );
        const refuse = (tensor: Tensor) => (): never => {
          throw new TraceError(
            `The compiled function '${options.name}' froze ${tensor instanceof tf.Variable ? `the variable '${tensor.name}'` : 'a tensor'}, and so has no gradient by it: capture it as 'input'.`,
          );
        };
        return Object.fromEntries([...inputs.map((_, i) => () => grads[i]!), ...refused.map(refuse)].entries());
      },
    });
    return result;
  }

  dispose(): void {
    this.gradient?.dispose();
    this.backend.binding.sessionDelete(this.session);
    for (const source of this.traced.captured) source.dispose();
  }

  /** The values of now of what the function captured. */
  private sources(): Tensor[] {
    return this.traced.captured.map(source => {
      const tensor = source.read();
      if (tensor.isDisposed)
        throw new Error(
          `The compiled function reads the variable '${(tensor as TensorFlow.Variable).name}', which was disposed${callerLine()}.`,
        );
      bringHere(tensor);
      return tensor;
    });
  }

  private feeds(leaves: readonly Tensor[], sources: readonly Tensor[]): number[] {
    return this.backend.getInputTensorIds([...leaves, ...sources]);
  }

  private tensors(handles: readonly TensorHandle[]): Tensor[] {
    return handles.map(handle => this.backend.createOutputTensor(handle));
  }

  private execute(leaves: readonly Tensor[], sources: readonly Tensor[]): Tensor[] {
    return this.tensors(this.backend.binding.sessionRun(this.session, this.feeds(leaves, sources)));
  }

  /** Assigns what the function assigned, and leaves its result. */
  private settle(outputs: readonly Tensor[]): Result {
    const { assigned, iterations, result, seed } = this.traced;
    assigned.forEach((variable, i) => {
      const value = outputs[outputs.length - assigned.length + i]!;
      variable.assign(value as never);
      value.dispose();
    });
    if (seed) seed.calls++;
    for (const [optimizer, count] of iterations) optimizer.iterations_ = optimizer.iterations + count;
    return unflatten(result, outputs) as Result;
  }
}

/** A trace as if the dynamic arguments held so many examples. */
function traceForBatch(
  fn: AnyFunction,
  args: readonly StaticTree[],
  options: TraceOptions,
  isDynamic: readonly boolean[],
  batch: number,
): Trace {
  const examples = flatten(args, 'all').leaves.map((leaf, i) =>
    isDynamic[i] ? tf.zeros([batch, ...leaf.shape.slice(1)], leaf.dtype as 'float32') : leaf,
  );
  try {
    return trace(fn as never, unflatten(args, examples) as StaticTree[], options);
  } finally {
    tf.dispose(examples.filter((_, i) => isDynamic[i]));
  }
}

/** From a function's tensors and the gradients of its results (those that are float32), the gradients of its tensors and of what it captured. */
function gradientOf(fn: AnyFunction, args: readonly StaticTree[], captured: readonly Tensor[]) {
  return (leaves: Tensor[], dys: Tensor[]): Tensor[] => {
    const xs = [...leaves, ...captured].filter(({ dtype }) => dtype === 'float32');
    const { grads } = engine().gradients(
      () => {
        const results = flatten(fn(...(unflatten(args, leaves) as StaticTree[])) as StaticTree, 'empty').leaves;
        return tf.addN(
          results.filter(({ dtype }) => dtype === 'float32').map((result, i) => tf.sum(tf.mul(result, dys[i]!))),
        );
      },
      xs,
      undefined,
      true,
    );
    return grads.map((grad, i) => grad ?? tf.zerosLike(xs[i]!));
  };
}

/** Frees what a compiled function holds when it is collected. */
const registry = new FinalizationRegistry<Set<Program>>(programs => {
  for (const program of programs) program.dispose();
});

let announced = false;

/**
 * A function of tensors (nested arrays and records of them) as a TensorFlow graph: traced once per signature, then replayed
 * whole, as `tf.function` does it. Forward, gradients, optimizer and metrics may all be inside; variables that the function
 * assigns are assigned after each run. Numbers, booleans, strings and null among the arguments are a part of the signature,
 * so that a new value is a new trace; other numbers that the function reads from outside are frozen when it is traced, but
 * for the rates and iterations of tfjs's optimizers. Branches and loops run once, while it is traced: none may depend on a
 * tensor's value. The caller disposes the results. Without the lab's native engine the function runs op by op, which is said
 * once.
 *
 * A compiled function has gradients (of first order) by its arguments and by what it captured as 'input'.
 *
 * Throws TraceError, at the first call of a signature, where the function can't be traced.
 */
export function compile<A extends readonly StaticTree[], R extends Result>(
  fn: (...args: A) => R,
  options: CompileOptions = {},
): Compiled<A, R> {
  const { capture = 'input', name = fn.name || 'function', maxSignatures = 8, dynamicBatch = [] } = options;
  const seed: Seed | undefined = options.seed === undefined ? undefined : { value: options.seed, calls: 0 };
  if (!hasGraphs()) {
    if (!announced)
      console.error(
        `compile: no graphs on the ${tf.getBackend() === 'tensorflow' ? 'prebuilt' : 'pure-JS'} engine, '${name}' and others run op by op.`,
      );
    announced = true;
    const unavailable = () => {
      throw new Error('Profiling needs the native engine: npm run setup.');
    };
    const plain = seed ? seededCalls(fn, seed) : fn;
    return withDispose(
      Object.assign((...args: A) => plain(...args), {
        async: async (...args: A) => plain(...args),
        profile: unavailable,
        dispose() {},
      }),
    );
  }

  const traceable = fn as unknown as AnyFunction;
  const programs = new Map<string, Program>();
  const resources = new Set<Program>();
  registry.register(programs, resources);
  const drop = (signature: string) => {
    const program = programs.get(signature)!;
    programs.delete(signature);
    resources.delete(program);
    program.dispose();
  };

  let warned = false;
  const programOf = (args: A): { program: Program; leaves: Tensor[] } => {
    if (!hasGraphs())
      throw new Error(
        `'${name}' is compiled for the backend 'tensorflow', and '${tf.getBackend()}' is set${callerLine()}: tf.setBackend('tensorflow').`,
      );
    const { structure, leaves } = flattenArguments(args, name);
    // As in eager ops, what counts is the data, which a clone may keep.
    const { tensorMap } = nodeBackend();
    if (leaves.some(({ isDisposed, dataId }) => isDisposed && !tensorMap.has(dataId)))
      throw new Error(`An argument of '${name}' was disposed${callerLine()}.`);
    leaves.forEach(bringHere);
    const isDynamic = dynamicBatch.length
      ? args.flatMap((arg, i) => flatten(arg, 'all').leaves.map(() => dynamicBatch.includes(i)))
      : [];
    const batches = new Set(leaves.filter((_, i) => isDynamic[i]).map(({ shape }) => shape[0]));
    if (batches.size > 1 || [...batches].includes(undefined as never))
      throw new Error(
        `The arguments of '${name}' with a dynamic batch have the first dimensions ${[...batches].join(', ')}${callerLine()}: one batch is allowed.`,
      );
    const sizes = ({ shape }: Tensor, i: number) => (isDynamic[i] ? ['?', ...shape.slice(1)] : shape).join();
    const signature = structure + leaves.map((leaf, i) => `|${leaf.dtype}[${sizes(leaf, i)}]`).join('');
    if (programs.get(signature)?.isCurrent() === false) drop(signature);
    let program = programs.get(signature);
    if (!program) {
      program = new Program(traceable, args, { capture, seed }, isDynamic);
      if (programs.size >= maxSignatures) {
        if (!warned)
          console.error(
            `compile: '${name}' was traced for more than ${maxSignatures} signatures; the oldest are dropped. Keep shapes fixed and pass numbers that change as tensors, or raise maxSignatures.`,
          );
        warned = true;
        drop(programs.keys().next().value!);
      }
      programs.set(signature, program);
      resources.add(program);
    }
    return { program, leaves };
  };

  let pending = 0;
  let last: Promise<unknown> = Promise.resolve();
  return withDispose(
    Object.assign(
      (...args: A) => {
        if (isTracing()) return fn(...args);
        if (pending) throw new Error(`'${name}' runs asynchronously${callerLine()}: await it before a plain call.`);
        const { program, leaves } = programOf(args);
        if (engine().isTapeOn()) return program.runRecorded(traceable, args, leaves, { capture, seed, name }) as R;
        return program.run(leaves) as R;
      },
      {
        async async(...args: A) {
          if (isTracing() || engine().isTapeOn())
            throw new TraceError(
              `'${name}' is called asynchronously within a trace or a gradient${callerLine()}: call it plainly.`,
            );
          const { program, leaves } = programOf(args);
          const own = leaves.map(leaf => tf.keep(leaf.clone()));
          pending++;
          const run = last.then(() => program.runAsync(own));
          last = run.catch(() => {}); // it is the caller's
          try {
            return (await run) as R;
          } finally {
            pending--;
            tf.dispose(own);
          }
        },
        profile(...args: A) {
          const { program, leaves } = programOf(args);
          return program.profile(leaves);
        },
        dispose() {
          for (const signature of [...programs.keys()]) drop(signature);
        },
      },
    ),
  );
}

/** A function without a graph, whose random numbers in each call come from a stream of that call's. */
function seededCalls<A extends readonly StaticTree[], R>(fn: (...args: A) => R, seed: Seed): (...args: A) => R {
  return (...args) => {
    const before = Math.random;
    Math.random = random(seed.value).fork('call', seed.calls++).uniform;
    try {
      return fn(...args);
    } finally {
      Math.random = before;
    }
  };
}

function flattenArguments(args: readonly StaticTree[], name: string): { structure: string; leaves: Tensor[] } {
  try {
    return flatten(args, 'all');
  } catch (error) {
    throw new TypeError(`An argument of '${name}' can't be taken${callerLine()}: ${(error as Error).message}`);
  }
}

/** `using step = compile(…)` where the runtime has it. */
function withDispose<T extends { dispose(): void }>(compiled: T): T {
  const symbol = (Symbol as { dispose?: symbol }).dispose;
  return symbol ? Object.assign(compiled, { [symbol]: () => compiled.dispose() }) : compiled;
}
