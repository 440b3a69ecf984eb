import { tf } from '../../tensor/tf';
import { override } from './override';
import { callerLine, TraceError } from './traceError';

/** Kernels of tfjs-node that read values on the host. `checking` hears which indices one reads only to check their range. Returns what undoes it. */
export function patchKernels(checking: (indices: object | undefined) => void): () => void {
  // TensorFlow checks the range of a gather's indices too, when it has them.
  const gather = tf.getKernel('GatherV2', 'tensorflow');
  const { kernelFunc } = gather;
  const restoreGather = override(gather, {
    kernelFunc: params => {
      checking(params.inputs.indices!.dataId);
      try {
        return kernelFunc(params);
      } finally {
        checking(undefined);
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
  return () => {
    restoreExp();
    restoreGather();
  };
}

/** A recurrent layer of tfjs, which keeps its state between calls where it is stateful. */
interface RecurrentLayer {
  name: string;
  stateful: boolean;
  call(...args: unknown[]): unknown;
}

/** Layers of tfjs whose state would be frozen into the graph are refused. Returns what undoes it. */
export function patchLayers(): () => void {
  const recurrent = (tf as unknown as { RNN: { prototype: RecurrentLayer } }).RNN.prototype; // of all such layers
  const { call } = recurrent;
  return override(recurrent, {
    call(this: RecurrentLayer, ...args) {
      if (this.stateful)
        throw new TraceError(
          `The layer '${this.name}' is stateful${callerLine()}: its state would be frozen into the graph. Make it with stateful: false, and pass its state in and out (initialState, returnState).`,
        );
      return call.apply(this, args);
    },
  });
}

/** tfjs's debug mode, and Math.random, while a function is traced. Returns what undoes it. */
export function patchHost(): () => void {
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
  return () => {
    restoreMath();
    restoreEnvironment();
  };
}
