import * as ort from 'onnxruntime-web/wasm';
import { RUNTIME } from '../manifest';
import { address, type Session, THREADS } from './backend';
import { onnxSession } from './onnx';

/** An `.onnx` file on ONNX Runtime's WebAssembly, with SIMD. */
export function openOnnxWasm(path: string, size: readonly [number, number]): Promise<Session> {
  const file = `${RUNTIME}ort-wasm-simd-threaded`;
  ort.env.wasm.wasmPaths = { mjs: address(`${file}.mjs`), wasm: address(`${file}.wasm`) };
  ort.env.wasm.numThreads = THREADS;
  return onnxSession(ort, path, size, 'wasm');
}
