import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { type Launch, start } from './contender';
import { PEERS } from './python';
import { type ContenderName, onnxBeside, type Task } from './workloads';

/** What the peers need beside the task. */
export interface Setting {
  /** The interpreter of their environment; undefined where only ours compete. */
  python?: string;
  /** The task as a SavedModel, for Python's TensorFlow; beside it, where it is a prediction, as ONNX. */
  savedModel: string;
}

/**
 * The ways in which a contender may do a task. Where there are several, each of them among what its documentation
 * recommends, the fastest on this machine competes.
 */
export function candidates(name: ContenderName, task: Task, { python, savedModel }: Setting): Launch[] {
  const node = (engine: string, env?: Launch['env']): Launch => ({
    name,
    command: process.execPath,
    args: NODE,
    env,
    prepare: { ...task, engine },
  });
  const peers = (script: string, prepare: object = {}, env?: Launch['env']): Launch[] => {
    if (!python) throw new Error(`${name} needs the peers' environment.`);
    return [{}, KEPT_MEMORY].map(memory => ({
      name,
      command: python,
      args: [join(PEERS, script)],
      env: { ...env, ...memory },
      prepare: { ...task, ...prepare },
    }));
  };
  switch (name) {
    case 'ours':
      return [node('compiled')];
    case 'stock tfjs-node':
      return [node('eager', { EDGEVIT_FUSED: '0' })];
    case 'PyTorch':
    case 'PyTorch, bfloat16':
    case 'torch.compile':
    case 'torch.compile, bfloat16': {
      const compile = name.startsWith('torch.compile');
      const bfloat16 = name.endsWith('bfloat16');
      // Weights that are trained cannot be constants.
      const frozen = (task.mode === 'infer' ? ['0', '1'] : ['0']).map(freezing => ({
        TORCHINDUCTOR_FREEZING: freezing,
        TORCHINDUCTOR_CACHE_DIR: join(python ?? '', '../../inductor'),
      }));
      return LAYOUTS.flatMap(layout =>
        (compile ? frozen : [{}]).flatMap(env => peers('pytorch.py', { layout, compile, bfloat16 }, env)),
      );
    }
    case 'ONNX Runtime':
      return peers('onnx_runtime.py'); // of PyTorch's export
    case 'ONNX Runtime, our export':
      return peers('onnx_runtime.py', { file: onnxBeside(savedModel) });
    case 'TensorFlow in Python':
      return peers('tensorflow_python.py', { savedModel });
  }
}

/** Whether a contender lives in the peers' environment. */
export const isPeer = (name: ContenderName): boolean => name !== 'ours' && name !== 'stock tfjs-node';

/** glibc keeps freed memory with the process, as the lab's addon has it do. The peers say so among their settings. */
const KEPT_MEMORY = { MALLOC_MMAP_MAX_: '0', MALLOC_TRIM_THRESHOLD_: String(2 ** 40) };

const LAYOUTS = ['contiguous', 'channels_last'];

const NODE = ['--import', createRequire(__filename).resolve('tsx'), join(__dirname, 'ours.ts')];

/** Exports the task in a process of its own, lends the SavedModel to `use`, and removes it. */
export async function withSavedModel<T>(task: Task, use: (savedModel: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-bench-'));
  const savedModel = join(folder, 'model');
  try {
    const exporter = await start(candidates('ours', task, { savedModel })[0]);
    await exporter.ask({ export: savedModel }, z.object({ exported: z.literal(savedModel) }));
    await exporter.stop();
    return await use(savedModel);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
