import type * as TensorFlow from '@tensorflow/tfjs';
import { type Tensor, tf } from '../../tensor/tf';
import { flatten, type Tree, unflatten } from '../../tensor/tree';
import { hasGraphs, type KernelTiming, type NativeSession, nodeBackend } from '../binding';
import { load } from './ir';
import { simplify } from './passes/simplify';
import { isTracing, trace } from './trace';

export type { Tree } from '../../tensor/tree';
export type { KernelTiming } from '../binding';
export { TraceError } from './trace';

export interface CompileOptions {
  /**
   * What becomes of a tensor that the function captured: 'input' (default) reads it anew at each call, as training needs;
   * 'constant' freezes its value, so that TensorFlow can fold and prepack it (inference: 1.2–1.8× faster).
   */
  capture?: 'input' | 'constant';
  /** Named in messages (default: the function's name). */
  name?: string;
  /** Graphs kept at once, one per shapes and dtypes of the arguments (default 8). Past it the oldest is dropped, with a warning. */
  maxSignatures?: number;
}

export type Compiled<A extends readonly Tree[], R extends Tree> = ((...args: A) => R) & {
  /** One run of these arguments, kernel by kernel, by TensorFlow's own step statistics. Throws on the pure-JS backend. */
  profile(...args: A): KernelTiming[];
  /** Frees the graphs and their captured tensors. A later call traces again. */
  dispose(): void;
};

/** One traced signature, loaded. */
class Program {
  private readonly session: NativeSession;
  private readonly captured: Tensor[];
  private readonly assigned: TensorFlow.Variable[];
  private readonly result: Tree;
  private readonly backend = nodeBackend();

  constructor(fn: (...args: never[]) => Tree, args: readonly Tree[], capture: 'input' | 'constant') {
    const traced = trace(fn, args, { capture });
    this.session = load(this.backend.binding, simplify(this.backend.binding, traced));
    this.captured = traced.captured;
    this.assigned = traced.assigned;
    this.result = traced.result;
  }

  private feeds(leaves: readonly Tensor[]): number[] {
    return this.backend.getInputTensorIds([...leaves, ...this.captured]);
  }

  run(leaves: readonly Tensor[]): Tree {
    const outputs = this.backend.binding
      .sessionRun(this.session, this.feeds(leaves))
      .map(handle => this.backend.createOutputTensor(handle));
    this.assigned.forEach((variable, i) => {
      const value = outputs[outputs.length - this.assigned.length + i]!;
      variable.assign(value as never);
      value.dispose();
    });
    return unflatten(this.result, outputs) as Tree;
  }

  profile(leaves: readonly Tensor[]): KernelTiming[] {
    return this.backend.binding.sessionProfile(this.session, this.feeds(leaves));
  }

  dispose(): void {
    this.backend.binding.sessionDelete(this.session);
    for (const tensor of this.captured) if (!(tensor instanceof tf.Variable)) tensor.dispose();
  }
}

let announced = false;

/**
 * A function of tensors (nested arrays and records of them) as a TensorFlow graph: traced once per signature, then replayed
 * whole, as `tf.function` does it. Forward, gradients, optimizer and metrics may all be inside; variables that the function
 * assigns are assigned after each run. The caller disposes the results. Without the lab's native engine the function is
 * returned unchanged, which is said once.
 *
 * Throws TraceError, at the first call of a signature, where the function can't be traced.
 */
export function compile<A extends readonly Tree[], R extends Tree>(
  fn: (...args: A) => R,
  options: CompileOptions = {},
): Compiled<A, R> {
  const { capture = 'input', name = fn.name || 'function', maxSignatures = 8 } = options;
  if (!hasGraphs()) {
    if (!announced)
      console.error(
        `compile: no graphs on the ${tf.getBackend() === 'tensorflow' ? 'prebuilt' : 'pure-JS'} engine, '${name}' and others run op by op.`,
      );
    announced = true;
    const unavailable = () => {
      throw new Error('Profiling needs the native engine: npm run setup.');
    };
    return withDispose(Object.assign((...args: A) => fn(...args), { profile: unavailable, dispose() {} }));
  }

  const programs = new Map<string, Program>();
  let warned = false;
  const programOf = (args: A): { program: Program; leaves: Tensor[] } => {
    const { structure, leaves } = flatten(args);
    if (!leaves.every(leaf => nodeBackend().tensorMap.has(leaf.dataId)))
      throw new Error(`An argument of '${name}' was disposed.`);
    const signature = structure + leaves.map(leaf => `|${leaf.dtype}[${leaf.shape.join()}]`).join('');
    let program = programs.get(signature);
    if (!program) {
      program = new Program(fn as unknown as (...args: never[]) => Tree, args, capture);
      if (programs.size >= maxSignatures) {
        if (!warned)
          console.error(
            `compile: '${name}' was traced for more than ${maxSignatures} signatures; the oldest are dropped. Keep shapes fixed, or raise maxSignatures.`,
          );
        warned = true;
        const [oldest, dropped] = programs.entries().next().value!;
        programs.delete(oldest);
        dropped.dispose();
      }
      programs.set(signature, program);
    }
    return { program, leaves };
  };

  return withDispose(
    Object.assign(
      (...args: A) => {
        if (isTracing()) return fn(...args);
        const { program, leaves } = programOf(args);
        return program.run(leaves) as R;
      },
      {
        profile(...args: A) {
          const { program, leaves } = programOf(args);
          return program.profile(leaves);
        },
        dispose() {
          for (const program of programs.values()) program.dispose();
          programs.clear();
        },
      },
    ),
  );
}

/** `using step = compile(…)` where the runtime has it. */
function withDispose<T extends { dispose(): void }>(compiled: T): T {
  const symbol = (Symbol as { dispose?: symbol }).dispose;
  return symbol ? Object.assign(compiled, { [symbol]: () => compiled.dispose() }) : compiled;
}
