import * as ort from 'onnxruntime-web/webgpu';
import { RUNTIME } from '../manifest';
import { address, type Session } from './backend';
import { onnxSession } from './onnx';

/** An `.onnx` file on ONNX Runtime's WebGPU. Untried: no machine of the lab's has a GPU. */
export function openOnnxWebgpu(path: string, size: readonly [number, number]): Promise<Session> {
  const file = `${RUNTIME}ort-wasm-simd-threaded.asyncify`;
  ort.env.wasm.wasmPaths = { mjs: address(`${file}.mjs`), wasm: address(`${file}.wasm`) };
  ort.env.wasm.numThreads = 1;
  return onnxSession(ort, path, size, 'webgpu');
}
