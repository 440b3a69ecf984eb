import type { KernelConfig, TensorInfo } from '@tensorflow/tfjs';
import { type Compiled, compile, TraceError, type Tree } from '../../lib/engine/compile/compile';
import { isTracing } from '../../lib/engine/compile/trace';
import { type Tensor, tf } from '../../lib/tensor/tf';

/** What was compiled so far. */
export interface Routing {
  calls: number;
  functions: number;
  kernels: Set<string>;
  /** Kernels that at least one call could not trace, and so ran as they are: by name, the tracer's reason. */
  refused: Map<string, string>;
}

type Kernel = KernelConfig['kernelFunc'];
type Functions = Map<string, Compiled<[Tree], Tree>>;

/** From now on each kernel call of tfjs-node is compiled: a graph of the one op that the kernel runs, sometimes of a few. */
export function compileKernels(): Routing {
  const routing: Routing = { calls: 0, functions: 0, kernels: new Set(), refused: new Map() };
  for (const kernel of tf.getKernelsForBackend('tensorflow')) {
    // A clone shares its data, which tfjs's tests count.
    if (kernel.kernelName !== 'Identity') kernel.kernelFunc = compiled(kernel.kernelName, kernel.kernelFunc, routing);
  }
  return routing;
}

function compiled(name: string, kernel: Kernel, routing: Routing): Kernel {
  const caches = new WeakMap<object, Functions>(); // tfjs's tests make the backend anew for each suite

  const functionOf = ({ backend, attrs }: Parameters<Kernel>[0], keys: string[]) => {
    if (!caches.has(backend)) caches.set(backend, new Map());
    const functions = caches.get(backend)!;
    const key = JSON.stringify([attrs, keys]);
    if (!functions.has(key)) {
      const run = (inputs: Tree): Tree => {
        // Through the registry, where the tracer puts kernels of its own; it leads back to the original one.
        const result = tf.getKernel(name, 'tensorflow').kernelFunc({ inputs: inputs as never, attrs, backend });
        return Array.isArray(result) ? result.map(tensor) : tensor(result);
      };
      functions.set(key, compile(run, { name, maxSignatures: Infinity }));
      routing.functions++;
    }
    return functions.get(key)!;
  };

  return params => {
    const given = Object.entries(params.inputs).filter((entry): entry is [string, Tensor] => Boolean(entry[1]));
    const strings = params.attrs?.dtype === 'string' || given.some(([, input]) => input.dtype === 'string');
    if (isTracing() || strings) return kernel(params);
    const inputs = Array.isArray(params.inputs) ? (params.inputs as Tensor[]) : Object.fromEntries(given);
    const run = functionOf(params, Object.keys(inputs));
    routing.calls++;
    routing.kernels.add(name);
    try {
      return run(inputs) as Tensor | Tensor[];
    } catch (error) {
      if (!(error instanceof TraceError) || error.message.startsWith('TensorFlow refuses')) throw error;
      routing.refused.set(name, error.message);
      return kernel(params);
    }
  };
}

/** Some kernels return the bare description of a tensor. */
function tensor(info: TensorInfo): Tensor {
  return 'rank' in info ? (info as Tensor) : tf.engine().makeTensorFromTensorInfo(info);
}
