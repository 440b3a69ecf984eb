import { cpus } from 'node:os';
import { isNative } from '../tensor/tf';
import { nodeBackend } from './binding';

/** What computes here: times compare among each other, and with none of another machine. */
export interface Machine {
  cpu: string;
  cores: number;
  /** `TensorFlow 2.19.1`, or `pure JavaScript`. */
  engine: string;
  node: string;
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
