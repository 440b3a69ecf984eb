import type { Preparation } from '../data/transforms/augment';

/** What the page's script knows of the model that it runs: `demo.json` beside it. Paths are relative to it. */
export interface Manifest {
  classes: readonly string[];
  /** [height, width] in pixels. */
  size: readonly [height: number, width: number];
  /** The shorter side to which images are shrunk before that, as a dataset's are. */
  side: number;
  augment: Preparation;
  /** The blocks whose delegates attend, in order: outputs of that name [1, heads, rows · columns]. */
  blocks: readonly Block[];
  /** The `.onnx` file that gives logits, and attention where there is any. */
  shown: string;
  /** `.onnx` files that give logits alone. */
  precisions: Readonly<Record<'fp32' | 'fp16' | 'q8', string>>;
  /** A graph model of TensorFlow.js. */
  graphModel: string;
}

export interface Block {
  /** `blocks3.0`. */
  name: string;
  heads: number;
  grid: readonly [rows: number, columns: number];
}

/** Where in the site the runtimes' own files are. */
export const RUNTIME = 'runtime/';
