import { copyFileSync, mkdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { BuildOptions } from 'esbuild';
import { DEFAULT_SIDE, withSide } from '../data/cache/side';
import type { Exportable } from '../export/exportable';
import { graphModelOf, onnxWithAttention, precisionsOf } from '../export/graphs';
import { allAttentionMaps, attends } from '../measure/attention';
import { tf } from '../tensor/tf';
import { weightsOf } from '../train/trained';
import { writeFileAtomic } from '../util/files';
import { demoPage } from './html';
import { type Block, type Manifest, RUNTIME } from './manifest';

/** What the runtimes load beside their scripts, by package. */
const RUNTIMES = {
  'onnxruntime-web/ort-wasm-simd-threaded': ['.mjs', '.wasm'],
  'onnxruntime-web/ort-wasm-simd-threaded.asyncify': ['.mjs', '.wasm'],
  '@tensorflow/tfjs-backend-wasm/wasm-out/tfjs-backend-wasm': ['.wasm', '-simd.wasm', '-threaded-simd.wasm'],
} as const;

/** How the page's script is made: modules, of which a runtime's is loaded when it is used. */
export const SCRIPT = {
  entryPoints: { main: join(__dirname, 'page/main.ts') },
  bundle: true,
  splitting: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2022',
  conditions: ['onnxruntime-web-use-extern-wasm'], // its script alone, without a copy of what RUNTIMES has
  legalComments: 'none',
  logLevel: 'error',
} as const satisfies BuildOptions;

/** Writes the page of a model, with all that it loads, into an empty folder that any web server can serve. Needs an open engine with graphs. */
export async function writeSite(source: Exportable, folder: string): Promise<void> {
  const { model, classes, augment, reading } = source;
  const blocks = attends(model) ? attendingBlocks(source) : [];
  const { fp32, fp16, q8 } = await precisionsOf(source, 'dynamic');
  const graph = graphModelOf(source);
  const models: Record<string, string | Uint8Array> = {
    'models/model.onnx': fp32,
    'models/model_fp16.onnx': fp16,
    'models/model_quantized.onnx': q8,
    'models/tfjs/model.json': graph['model.json'],
    'models/tfjs/weights.bin': graph['weights.bin'],
  };
  if (blocks.length > 0)
    models['models/attention.onnx'] = onnxWithAttention(
      source,
      blocks.map(({ name }) => name),
    );
  const { mean, std, interpolation, centerCrop } = augment;
  const manifest: Manifest = {
    classes,
    size: model.inputSize,
    side: withSide({ side: reading.side }, model.inputSize).side ?? DEFAULT_SIDE,
    augment: { mean, std, interpolation, centerCrop },
    blocks,
    shown: blocks.length > 0 ? 'models/attention.onnx' : 'models/model.onnx',
    precisions: { fp32: 'models/model.onnx', fp16: 'models/model_fp16.onnx', q8: 'models/model_quantized.onnx' },
    graphModel: 'models/tfjs/model.json',
  };
  for (const [path, content] of Object.entries(models)) writeFileAtomic(join(folder, path), content);
  const runtime = copyRuntimes(join(folder, RUNTIME));
  const { build } = await import('esbuild'); // a development dependency, as the runtimes are
  await build({ ...SCRIPT, outdir: folder });
  writeFileAtomic(join(folder, 'demo.json'), JSON.stringify(manifest));
  const files = [
    { what: 'the model in float32', bytes: fp32.length },
    { what: 'in float16', bytes: fp16.length },
    { what: 'in 8 bits (matrices only)', bytes: q8.length },
    { what: 'for TensorFlow.js, in float32', bytes: graph['weights.bin'].length + graph['model.json'].length },
    { what: "ONNX Runtime's WebAssembly", bytes: runtime },
  ];
  writeFileAtomic(join(folder, 'index.html'), demoPage(source, blocks, files));
}

/** Which blocks attend, by how many heads, and where their delegates are. */
function attendingBlocks(source: Exportable): Block[] {
  const weights = weightsOf(source);
  const images = tf.zeros([1, ...source.model.inputSize, 3]);
  const maps = allAttentionMaps(source.model, weights, images);
  const blocks = Object.entries(maps).map(
    ([name, { weights, grid }]): Block => ({ name, heads: weights.shape[1]!, grid }),
  );
  tf.dispose([images, weights.params, weights.buffers, Object.values(maps).map(({ weights }) => weights)]);
  return blocks;
}

/** Returns the bytes of that which every browser loads. */
function copyRuntimes(folder: string): number {
  const { resolve } = createRequire(__filename);
  mkdirSync(folder, { recursive: true });
  for (const [name, ends] of Object.entries(RUNTIMES))
    for (const end of ends) {
      const path = resolve(`${name}${end}`);
      copyFileSync(path, join(folder, path.slice(dirname(path).length + 1)));
    }
  return statSync(join(folder, 'ort-wasm-simd-threaded.wasm')).size;
}
