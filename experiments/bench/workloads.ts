/** A piece of work that every contender does: the same model, batch and optimizer. */
export interface Task {
  model: string;
  mode: 'train' | 'infer';
  batch: number;
  /** Side of the images in pixels. */
  size: number;
  classes: number;
}

/** Where an exported prediction lies as ONNX. */
export const onnxBeside = (savedModel: string): string => `${savedModel}.onnx`;

export const CONTENDERS = [
  'ours',
  'stock tfjs-node',
  'PyTorch',
  'torch.compile',
  'PyTorch, bfloat16',
  'torch.compile, bfloat16',
  'ONNX Runtime',
  'ONNX Runtime, our export',
  'TensorFlow in Python',
] as const;
export type ContenderName = (typeof CONTENDERS)[number];

/** All ways that PyTorch has: whoever uses it takes the fastest. */
const PYTORCH: readonly ContenderName[] = ['PyTorch', 'torch.compile', 'PyTorch, bfloat16', 'torch.compile, bfloat16'];

/** What we set out to reach against a contender. */
export interface Target {
  /** Of several, the one that is the fastest. */
  against: ContenderName | readonly ContenderName[];
  /** How many times as long the contender may take at least. */
  speed?: number;
  /** How many times its peak memory we may use at most. */
  memory?: number;
}

export interface Workload {
  /** What `--only` takes. */
  id: string;
  title: string;
  task: Task;
  contenders: readonly ContenderName[];
  targets: readonly Target[];
}

const TRAINING: readonly ContenderName[] = ['ours', 'stock tfjs-node', ...PYTORCH, 'TensorFlow in Python'];
const INFERENCE: readonly ContenderName[] = [
  'ours',
  'stock tfjs-node',
  ...PYTORCH,
  'ONNX Runtime',
  'ONNX Runtime, our export',
  'TensorFlow in Python',
];

const INFERENCE_TARGETS: readonly Target[] = [
  { against: 'PyTorch', speed: 1.5 },
  { against: 'torch.compile', speed: 1 },
  { against: 'ONNX Runtime', speed: 0.7 },
];

/** Training: all of a step with AdamW, from the augmented batch in host memory to the loss. Flowers-102 has 102 classes. */
function training(id: string, name: string, task: Omit<Task, 'mode'>, targets: readonly Target[]): Workload {
  return {
    id,
    title: `${name} training step, batch ${task.batch}, ${task.size} px`,
    task: { mode: 'train', ...task },
    contenders: TRAINING,
    targets,
  };
}

/** Inference: from an image in host memory to its logits. */
function inference(id: string, name: string, model: string): Workload {
  const task: Task = { mode: 'infer', model, batch: 1, size: 224, classes: 1000 };
  return { id, title: `${name} inference, batch 1, 224 px`, task, contenders: INFERENCE, targets: INFERENCE_TARGETS };
}

export const WORKLOADS: readonly Workload[] = [
  training('train-xxs-224', 'XXS', { model: 'edgevit-xxs', batch: 16, size: 224, classes: 102 }, [
    { against: 'stock tfjs-node', speed: 2.5 },
    { against: PYTORCH, speed: 1.4, memory: 1.5 },
  ]),
  training('train-xxs-96', 'XXS', { model: 'edgevit-xxs', batch: 16, size: 96, classes: 102 }, [
    { against: PYTORCH, speed: 1.2 },
  ]),
  training('train-s-224', 'S', { model: 'edgevit-s', batch: 8, size: 224, classes: 102 }, [
    { against: PYTORCH, speed: 1.2 },
  ]),
  training('train-article-224', "the article's model,", { model: 'article', batch: 16, size: 224, classes: 103 }, [
    { against: PYTORCH, speed: 1.2 },
  ]),
  inference('infer-xxs-224', 'XXS', 'edgevit-xxs'),
  inference('infer-xs-224', 'XS', 'edgevit-xs'),
  inference('infer-s-224', 'S', 'edgevit-s'),
];
