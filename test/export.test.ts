import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { env, pipeline, RawImage } from '@huggingface/transformers';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, describe, expect, it } from 'vitest';
import { networkInput } from '../lib/data/input';
import { parseAugmentation } from '../lib/data/transforms/augmentation';
import { hasGraphs } from '../lib/engine/binding';
import { exportModel } from '../lib/export/formats';
import { preprocessorConfig } from '../lib/export/huggingFace';
import { gramsOf } from '../lib/export/onnx/calibrate';
import type { Initializer, OnnxGraph } from '../lib/export/onnx/graph';
import { rounded } from '../lib/export/onnx/quantizeWeights';
import type { Model } from '../lib/model/module';
import { createModel } from '../lib/model/registry';
import { tf } from '../lib/tensor/tf';
import { weightsOf } from '../lib/train/trained';
import { UserError } from '../lib/util/errors';
import { random } from '../lib/util/random';
import { ROOT } from '../lib/util/root';
import { fromHalf, toHalf } from '../lib/weights/elements';
import { readStateDict } from '../lib/weights/stateDict';
import { readTensors } from '../lib/weights/tensorFiles';
import { bothWays, exportable, NETWORKS } from './onnx/compare';
import './allclose';

const scratch = mkdtempSync(join(tmpdir(), 'edgevit-export-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Every network, as small as it can be: stages of less and of more channels than the depthwise kernels take. */
function tiny(name: string, ablation?: string): Model {
  const set = name.startsWith('edgevit')
    ? ['depths=1,1,1,1', 'dims=8,16,16,24', 'heads=1,2,1,2', 'mlpRatio=2']
    : name === 'vit-tiny'
      ? ['depth=2', 'dim=24']
      : name === 'mobilenet-v2'
        ? ['width=0.25']
        : [];
  return createModel(name, { numClasses: 5, size: name.startsWith('edgevit') ? 64 : 32, ablation, set });
}

describe.skipIf(!hasGraphs())('ONNX', () => {
  it.each(NETWORKS)("gives $name $ablation's logits in ONNX Runtime", async ({ name, ablation }) => {
    const model = tiny(name, ablation);
    const { graph, ours, theirs } = await bothWays(model, 20);
    expect(theirs).toBeAllclose(ours);
    // No batch norm is left, nor what it was made of.
    const ops = graph.nodes.map(({ op }) => op);
    expect(ops).not.toContain('BatchNormalization');
    if (name === 'mobilenet-v2') expect(ops).not.toContain('Mul');
  });

  it('does without Gelu and with older reductions in opset 17', async () => {
    const { graph, ours, theirs } = await bothWays(tiny('edgevit-xxs'), 17);
    expect(theirs).toBeAllclose(ours);
    expect(graph.nodes.map(({ op }) => op)).not.toContain('Gelu');
  });
});

/** Plain TensorFlow.js, as a page has it, on its backend of pure JavaScript. */
const PLAIN = `
const tf = require('@tensorflow/tfjs');
const { readFileSync } = require('node:fs');
(async () => {
  await tf.setBackend('cpu');
  const { weightsManifest: [{ weights }], ...model } = JSON.parse(readFileSync(process.argv[1] + '/model.json'));
  const bytes = readFileSync(process.argv[1] + '/weights.bin');
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const loaded = await tf.loadGraphModel(tf.io.fromMemory({ ...model, weightSpecs: weights, weightData }));
  const logits = loaded.predict(tf.ones([3, 64, 64, 3]));
  console.log('RESULT' + JSON.stringify(Array.from(logits.dataSync())));
})();
`;

describe.skipIf(!hasGraphs())('8 bits', () => {
  it.each([
    ['dynamic', 0.1], // 8 bits in each product
    ['static', 0.1],
    ['weights', 3e-3],
  ] as const)('%s: nearly the probabilities of float32, by a third of the bytes', async (how, tolerance) => {
    const set = ['depths=1,1,1,1', 'dims=36,72,80,96', 'heads=1,2,4,4'];
    const source = exportable(createModel('edgevit-xxs', { numClasses: 5, size: 64, set }));
    const rng = random('calibration');
    const images = Array.from({ length: 8 }, () => Float32Array.from({ length: 3 * 64 * 64 }, () => rng.normal()));
    const probabilities = async (file: string): Promise<Float32Array> => {
      const session = await InferenceSession.create(file);
      const logits: number[] = [];
      for (const image of images) {
        const results = await session.run({ pixel_values: new Tensor('float32', image, [1, 3, 64, 64]) });
        logits.push(...(results.logits!.data as Float32Array));
      }
      await session.release();
      return tf.tidy(() => tf.softmax(tf.tensor2d(logits, [images.length, 5])).dataSync<'float32'>());
    };
    const files = ['float32', how].map(name => join(scratch, `8-bits-${how}`, name));
    await exportModel(source, 'onnx', files[0]!);
    await exportModel(source, 'onnx', files[1]!, { int8: how === 'static' ? { how, images } : { how } });
    const [whole, small] = files.map(folder => join(folder, 'model.onnx')) as [string, string];
    expect(await probabilities(small)).toBeAllclose(await probabilities(whole), tolerance);
    expect(statSync(small).size).toBeLessThan(0.35 * statSync(whole).size);
  });
});

it('rounds a matrix so that errors cancel in its products with inputs that go together', () => {
  const rng = random('lattice');
  const [rows, columns, inputs] = [24, 5, 200];
  const weights = Float32Array.from({ length: rows * columns }, () => rng.normal());
  const causes = Array.from({ length: 4 }, () => Array.from({ length: rows }, () => rng.normal()));
  const x = Array.from({ length: inputs }, () => {
    const strengths = causes.map(() => rng.normal());
    return Array.from({ length: rows }, (_, i) => causes.reduce((sum, c, k) => sum + c[i]! * strengths[k]!, 0));
  });
  const gram = new Float64Array(rows * rows);
  for (const values of x)
    for (let i = 0; i < gram.length; i++) gram[i]! += values[Math.floor(i / rows)]! * values[i % rows]!;
  const identity = Float64Array.from(gram, (_, i) => Number(Math.floor(i / rows) === i % rows));
  const errorBy = (gram: Float64Array): number => {
    const { integers, scales } = rounded(weights, columns, gram);
    const wrong = weights.map((value, i) => value - integers[i]! * scales[i % columns]!);
    expect(Math.max(...wrong.map((value, i) => Math.abs(value) / scales[i % columns]!))).toBeLessThan(20);
    const squares = x.flatMap(values =>
      Array.from(
        { length: columns },
        (_, c) => values.reduce((sum, v, i) => sum + v * wrong[i * columns + c]!, 0) ** 2,
      ),
    );
    return Math.sqrt(squares.reduce((sum, square) => sum + square, 0));
  };
  expect(errorBy(gram)).toBeLessThan(errorBy(identity) / 3);
});

it('leaves a matrix of very many inputs, as the article’s classifier is, without a Gram matrix, and rounds it to the nearest', async () => {
  const sides = [3, 224, 224];
  const inputs = sides.reduce((a, b) => a * b);
  const weights = Float32Array.from({ length: inputs }, (_, i) => Math.sin(i));
  const graph: OnnxGraph = {
    name: 'classifier',
    opset: 20,
    nodes: [
      { op: 'Reshape', inputs: ['x', 'shape'], outputs: ['flat'], attributes: {} },
      { op: 'MatMul', inputs: ['flat', 'matrix'], outputs: ['y'], attributes: {} },
    ],
    initializers: new Map<string, Initializer>([
      ['shape', { type: 'int64', shape: [2], data: BigInt64Array.of(-1n, BigInt(inputs)) }],
      ['matrix', { type: 'float32', shape: [inputs, 1], data: weights }],
    ]),
    inputs: [{ name: 'x', type: 'float32', shape: ['batch', ...sides] }],
    outputs: [{ name: 'y', type: 'float32' }],
    metadata: {},
  };
  expect((await gramsOf(graph, [new Float32Array(inputs)])).size).toBe(0);
  const { integers, scales } = rounded(weights, 1);
  expect(weights.every((value, i) => Math.abs(value / scales[0]! - integers[i]!) < 0.501)).toBe(true);
});

describe.skipIf(!hasGraphs())('the folder for the Hugging Face hub', () => {
  const source = () => exportable(tiny('edgevit-xxs'));

  it('is run by transformers.js in float32, float16 and 8 bits', async () => {
    const exported = source();
    const { model, classes, augment } = exported;
    const folder = join(scratch, 'hub');
    await exportModel(exported, 'hf', folder);
    const { params, buffers } = weightsOf(exported);
    Object.assign(env, { allowRemoteModels: false, localModelPath: '' });
    const rng = random('photos');
    const photos = Array.from({ length: 4 }, () => Uint8Array.from({ length: 64 * 64 * 3 }, () => rng.int(256)));
    for (const [dtype, tolerance] of [
      ['fp32', 1e-5],
      ['fp16', 1e-2], // 11 bits in each of some fifty layers
      ['q8', 1e-2],
    ] as const) {
      const classify = await pipeline('image-classification', folder, { dtype, device: 'cpu' });
      for (const pixels of photos) {
        const input = networkInput({ width: 64, height: 64, pixels }, 64, augment);
        const { logits } = model.forward(input, params, buffers, { train: false });
        const told = await classify(new RawImage(pixels, 64, 64, 3), { top_k: classes.length });
        const scores = classes.map(name => told.find(({ label }) => label === name)!.score);
        expect(scores, dtype).toBeAllclose(tf.softmax(logits).dataSync<'float32'>(), tolerance);
      }
      await classify.dispose();
    }
  });

  it('tells Python how to resize, crop and normalise', () => {
    const augment = parseAugmentation({ centerCrop: 0.875, interpolation: 'bicubic', mean: [0.5, 0.4, 0.3] });
    expect(preprocessorConfig({ ...source(), augment })).toMatchObject({
      size: { shortest_edge: 73 },
      crop_size: { height: 64, width: 64 },
      do_center_crop: true,
      resample: 3,
      image_mean: [0.5, 0.4, 0.3],
    });
    expect(preprocessorConfig(source())).toMatchObject({ size: { height: 64, width: 64 }, do_center_crop: false });
  });

  it('rounds to float16 as the standard does', () => {
    const values = Float32Array.of(1, -2.5, 65504, 65520, 2 ** -24, 2 ** -25, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 6.1e-5);
    const kept = [1, -2.5, 65504, Infinity, 2 ** -24, 0, 1, 1 + 2 ** -9, Math.round(6.1e-5 * 2 ** 24) / 2 ** 24];
    expect(Array.from(fromHalf(toHalf(values)))).toEqual(kept);
  });
});

describe.skipIf(!hasGraphs())('exportModel', () => {
  it('writes a graph model that plain TensorFlow.js runs, for any batch', async () => {
    const source = exportable(tiny('edgevit-xxs'));
    const folder = join(scratch, 'tfjs');
    await exportModel(source, 'tfjs', folder);
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', PLAIN, folder], { cwd: ROOT, encoding: 'utf8' });
    const result = /RESULT(.*)/.exec(stdout)?.[1];
    expect(result, stderr).toBeDefined();
    const { params, buffers } = weightsOf(source);
    const { logits } = source.model.forward(tf.ones([3, 64, 64, 3]), params, buffers, { train: false });
    expect(JSON.parse(result!) as number[]).toBeAllclose(logits.dataSync<'float32'>());
  });

  it('writes weights that read back equal to the bit', async () => {
    const source = exportable(tiny('edgevit-xxs'));
    await exportModel(source, 'safetensors', join(scratch, 'weights'));
    await exportModel(source, 'pth', join(scratch, 'torch'));
    const { tensors, metadata } = readTensors(join(scratch, 'weights/model.safetensors'));
    expect(tensors).toEqual(source.tensors);
    expect(JSON.parse(metadata.classes!)).toEqual(source.classes);
    expect((await readStateDict(join(scratch, 'torch/model.pth'))).tensors).toEqual(source.tensors);
  });

  it('never writes into a folder with something in it, nor leaves anything half-done', async () => {
    const source = exportable(tiny('edgevit-xxs'));
    const folder = join(scratch, 'occupied');
    mkdirSync(folder);
    writeFileSync(join(folder, 'mine.txt'), '');
    await expect(exportModel(source, 'onnx', folder)).rejects.toThrow(UserError);
    expect(readdirSync(folder)).toEqual(['mine.txt']);
    expect(readdirSync(scratch).filter(name => name.startsWith('.'))).toEqual([]);
  });
});
