/** What `import … from 'edgevit-lab'` offers. `library.cjs` loads it; lib/runs/predictor.ts is what it is checked against. */

/** A class, and how likely it is: probabilities of all classes sum to 1. */
export interface Prediction {
  /** The class's name; `class 7` where nothing says how it is called. */
  name: string;
  /** The class's number: where it stands among `classes`. */
  label: number;
  probability: number;
}

/** 8-bit RGB, row by row, three bytes for each pixel. */
export interface Pixels {
  width: number;
  height: number;
  pixels: Uint8Array;
}

/** A file of any kind that the lab's datasets take (in a browser, that the browser shows), by its path or address or its bytes; or pixels. */
export type Image = string | Blob | Uint8Array | Pixels;

export interface LoadOptions {
  /** The network, such as `edgevit-xxs` (default: the one whose names and shapes fit). */
  model?: string;
  /** Whose names the weights have: official, easycv, birder, timm (default: told by them). */
  map?: string;
  /** Which state dict of a PyTorch file, such as `model_ema` (default: the plain one). */
  key?: string;
  /** Side of the images that the network sees, in pixels, or [height, width] (default: what the file says, or 224). */
  size?: number | readonly [height: number, width: number];
  /** Settings of the network that differ from the published ones: `['sampleRates=2,2,2,1']`. */
  set?: readonly string[];
  /** Names of the classes (default: what the file, or a run.json beside it, says). */
  classes?: readonly string[];
}

export interface LoadedModel {
  readonly name: string;
  readonly classes: readonly string[];
  /** [height, width] in pixels, to which images are resized. */
  readonly inputSize: readonly [height: number, width: number];
  /** The likeliest classes, the likeliest first. Throws UserError for what is no image that can be read. */
  predict(image: Image, options?: { top?: number }): Promise<Prediction[]>;
  /** Frees its weights. */
  dispose(): void;
}

/**
 * A network with its weights, out of `.safetensors`, `.pth` or `.pt`. The first call sets TensorFlow's native engine up (a download, once per
 * user; `npx edgevit-lab setup` does it beforehand). In a bundle for the browser `file` is the address of a `.safetensors` file, and TensorFlow.js
 * computes, by the backend that the page has chosen. Throws UserError, an error of one sentence, for what can't be loaded.
 */
export function loadModel(file: string, options?: LoadOptions): Promise<LoadedModel>;

/** The network of a run's folder, with the weights, classes and preprocessing that it was tested with. Throws UserError where there is none, and in a browser. */
export function loadRun(folder: string): Promise<LoadedModel>;
