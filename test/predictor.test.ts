import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { parseAugmentation } from '../lib/data/transforms/augmentation';
import { exportModel } from '../lib/export/formats';
import { createModel } from '../lib/model/registry';
import { loadModel, loadRun } from '../lib/runs/predictor';
import { trainedFile } from '../lib/runs/trained';
import { startTrial } from '../lib/runs/trial';
import { saveWeights } from '../lib/train/checkpoint';
import { planTraining } from '../lib/train/plan';
import { untrained } from '../lib/train/trained';
import { Failure, UserError } from '../lib/util/errors';
import { random } from '../lib/util/random';
import { readTensors, writeTensors } from '../lib/weights/tensorFiles';
import { scratch } from './imageFolders';
import { tinyRecipe } from './training';

const folder = scratch();
const reporter = { say() {}, step() {}, epoch() {}, end() {} };

/** PNGs of noise, of sizes that the network doesn't have. */
async function photographs(): Promise<void> {
  const rng = random('photographs');
  for (const name of ['train/lily/1', 'train/lily/2', 'train/rose/1', 'train/rose/2', 'test/lily/1', 'test/rose/1']) {
    const [width, height] = [40 + rng.int(30), 40 + rng.int(30)];
    const pixels = Uint8Array.from({ length: width * height * 3 }, () => rng.int(256));
    folder.put(
      `${name}.png`,
      await sharp(pixels, { raw: { width, height, channels: 3 } })
        .png()
        .toBuffer(),
    );
  }
}

test('a run, loaded by its folder or by its checkpoint, says of its test images what it recorded', async () => {
  await photographs();
  const recipe = tinyRecipe({
    epochs: 1,
    batch: 4,
    ema: 0.5,
    data: `folder:${folder.root}`,
    augment: { centerCrop: 0.875 },
  });
  const dataset = await folder.open();
  const runs = join(folder.root, '../runs');
  const run = await startTrial({
    reporter,
    writeReport: async () => {},
    plan: planTraining(recipe, dataset),
    recipeName: 'petals',
    about: '',
    runs,
  });
  const { top, probabilities } = run.predictions()!;
  for (const model of [await loadRun(run.folder), await loadModel(run.lastCheckpoint)]) {
    expect(model.classes).toEqual(['lily', 'rose']);
    for (const [i, name] of dataset.test.names.entries()) {
      const path = join(folder.root, name);
      const said = await model.predict(path);
      expect(said.map(({ label }) => label)).toEqual(top[i]);
      expect(said.map(({ name }) => name)).toEqual(top[i].map(label => dataset.classes[label]));
      said.forEach(({ probability }, j) => expect(probability).toBeCloseTo(probabilities[i][j]!, 4));
      expect(await model.predict(readFileSync(path), { top: 1 })).toEqual(said.slice(0, 1));
    }
    model.dispose();
  }
});

test('a file of weights alone gives the names that it carries, or numbers', async () => {
  const network = createModel('edgevit-xxs', { numClasses: 3, size: 64, depths: '1,1,1,1' });
  const path = join(folder.root, '..', 'model.safetensors');
  const { params, buffers } = network.init(0);
  saveWeights(path, network, params, buffers, 0);
  const { tensors, metadata } = readTensors(path);
  const image = { width: 3, height: 2, pixels: new Uint8Array(18).fill(90) };
  const names = async (): Promise<string[]> => {
    const model = await loadModel(path);
    expect(model.inputSize).toEqual([64, 64]);
    const said = await model.predict(image);
    expect(said.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 5);
    return said.sort((a, b) => a.label - b.label).map(({ name }) => name);
  };
  expect(await names()).toEqual(['class 0', 'class 1', 'class 2']);
  writeTensors(path, { tensors, metadata: { ...metadata, classes: '["lily","rose","tulip"]' } });
  expect(await names()).toEqual(['lily', 'rose', 'tulip']);
  const model = await loadModel(path, { classes: ['a'] });
  await expect(model.predict(path)).rejects.toThrow(UserError);
  await expect(model.predict(join(folder.root, 'none.png'))).rejects.toThrow(UserError);
  await expect(loadModel(path, { classes: ['a', 'b', 'c', 'd'] })).rejects.toThrow(UserError);
  const bias = { dtype: 'F32' as const, shape: [3], data: new Float32Array(3).fill(Number.NaN) };
  writeTensors(path, { tensors: { ...tensors, 'head.bias': bias }, metadata });
  await expect((await loadModel(path)).predict(image)).rejects.toThrow(Failure);
});

test('an exported file is prepared for as its run was: size, normalisation, crop and decoder', async () => {
  const network = createModel('edgevit-xxs', { numClasses: 2, size: [64, 96], depths: '1,1,1,1' });
  const own = {
    ...untrained(network),
    augment: parseAugmentation({ mean: [0.4, 0.5, 0.6], centerCrop: 0.8, interpolation: 'bicubic' }),
    reading: { decode: 'pillow' as const, side: 120 },
    classes: ['lily', 'rose'],
  };
  await exportModel(own, 'safetensors', join(folder.root, '../exported'));
  const read = await trainedFile(join(folder.root, '../exported/model.safetensors'));
  expect(read.model.inputSize).toEqual([64, 96]);
  expect(read.classes).toEqual(own.classes);
  expect(read.reading).toEqual(own.reading);
  expect(read.augment).toEqual(own.augment);

  const path = join(folder.root, '../exported/model.safetensors');
  const { tensors, metadata } = readTensors(path);
  writeTensors(path, { tensors, metadata: { ...metadata, preprocessing: '{"size":[0,1e9],"mean":[1],"side":-1}' } });
  const odd = await trainedFile(path, { size: 64 });
  expect(odd.augment).toEqual(parseAugmentation());
  expect(odd.reading).toEqual({});
});
