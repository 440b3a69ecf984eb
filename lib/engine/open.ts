import { createRequire } from 'node:module';
import { join } from 'node:path';
import type * as TensorFlow from '@tensorflow/tfjs';
import { installOps } from '../tensor/ops';
import { provideTf } from '../tensor/tf';
import { limitThreads } from '../util/threads';
import { hasGraphs, nodeBackend } from './binding';
import { type Engine, type EnsureOptions, ensureEngine } from './build/install';
import { engineRequire, packageFolder } from './build/packages';
import { callerLine } from './compile/traceError';
import { fusedOps } from './fused';
import { dtypeRefusal } from './refusals';

const load = createRequire(__filename);

let opened: Promise<Engine> | undefined;

/**
 * Gives `tf` its engine: sets TensorFlow up where that has yet to be done, loads it, and installs the fused kernels where they are there. To be awaited before the first computation; later
 * calls return the same engine, since a process has one. Says which one it is and why with `announce`, or where it is not the best.
 * Environment variables that TensorFlow reads as it is loaded (TF_NUM_INTRAOP_THREADS) count as they are at the first call.
 */
export function openEngine(options: EnsureOptions = {}): Promise<Engine> {
  opened ??= open(options);
  return opened;
}

async function open(options: EnsureOptions): Promise<Engine> {
  const engine = await ensureEngine({ announce: false, ...options });
  provideTf(engine.addon === undefined ? loadJs() : loadNative(engine.addon));
  if (hasGraphs()) explainRefusals();
  if (hasGraphs() && process.env.EDGEVIT_FUSED !== '0') installOps(fusedOps);
  return engine;
}

function loadNative(addon: string): typeof TensorFlow {
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2'; // before the addon loads, or TensorFlow prints banners
  limitThreads();
  restoreUtil();
  // tfjs-node asks node-pre-gyp for its addon, whose answer would lie in its own package folder: ours is loaded from where it was built.
  const locator = createRequire(join(packageFolder('@tensorflow/tfjs-node'), 'package.json')).resolve(
    '@mapbox/node-pre-gyp',
  );
  load.cache[locator] = { id: locator, filename: locator, loaded: true, exports: { find: () => addon } } as NodeModule;
  try {
    return engineRequire()('@tensorflow/tfjs-node') as typeof TensorFlow;
  } finally {
    delete load.cache[locator];
  }
}

/** TensorFlow answers an eager op of a wrong dtype with a page about its kernels. */
function explainRefusals(): void {
  const { binding } = nodeBackend();
  const { executeOp } = binding;
  binding.executeOp = (op, attrs, inputs, outputs) => {
    try {
      return executeOp(op, attrs, inputs, outputs);
    } catch (error) {
      const sentence = dtypeRefusal(op, (error as Error).message, callerLine());
      throw sentence ? new TypeError(sentence, { cause: error }) : error;
    }
  };
}

function loadJs(): typeof TensorFlow {
  const tf = engineRequire()('@tensorflow/tfjs') as typeof TensorFlow;
  tf.setBackend('cpu');
  return tf;
}

/** tfjs-node 4.22 calls `util.is*` functions that Node 22 deprecates and 23 removed. */
function restoreUtil(): void {
  const missing: Record<string, (value: unknown) => boolean> = {
    isArray: Array.isArray,
    isNullOrUndefined: value => value === null || value === undefined,
    isNumber: value => typeof value === 'number',
    isString: value => typeof value === 'string',
  };
  const target = load('node:util') as Record<string, unknown>;
  Object.assign(target, missing); // also where they are there: Node 22 warns of each that is called
}
