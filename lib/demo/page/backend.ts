/** A model on one runtime: values of an image [height, width, 3], normalised, → what it gives, by output. */
export interface Session {
  run(values: Float32Array): Promise<Record<string, Float32Array>>;
  dispose(): Promise<void>;
}

/** A path of the site as an address. */
export const address = (path: string): string => new URL(path, document.baseURI).href;

/** Threads of WebAssembly, which share memory only where the server isolates the page from others. */
export const THREADS = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1;
