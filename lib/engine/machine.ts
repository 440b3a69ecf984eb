import { cpus } from 'node:os';
import { isNative } from '../tensor/tf';
import { hasGraphs, nodeBackend } from './binding';
import { labelOf } from './build/isa';

/** What computes here: times compare among each other, and with none of another machine. */
export interface Machine {
  cpu: string;
  cores: number;
  /** `TensorFlow 2.19.1`, or `pure JavaScript`. */
  engine: string;
  node: string;
}

/** What the addon in use is built for: `AVX2`, `AVX-512`, …; `none` in pure JavaScript. */
export function instructionSet(): string {
  return hasGraphs() ? labelOf(nodeBackend().binding.isa ?? 'unknown') : 'none';
}

export function machine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    engine: isNative() ? `TensorFlow ${nodeBackend().binding.TF_Version}` : 'pure JavaScript',
    node: process.version,
  };
}
