import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseAugmentation } from '../../lib/data/transforms/augmentation';
import { exportModel } from '../../lib/export/formats';
import type { LoadedModel, LoadOptions, Prediction } from '../../lib/library';
import { createModel } from '../../lib/model/registry';
import { loadModel } from '../../lib/runs/predictor';
import { untrained } from '../../lib/train/trained';
import { random } from '../../lib/util/random';
import { ROOT } from '../../lib/util/root';
import { launchChromium } from './chromium';

// The package in somebody else's bundle: its browser condition, on plain TensorFlow.js.

const folder = mkdtempSync(join(tmpdir(), 'edgevit-bundle-'));
const SITE = 'http://edgevit.test/';

let browser: Browser;
let page: Page;
let here: LoadedModel;

/** Runs a function of the page's `loadModel`. */
const inPage = <T>(body: string): Promise<T> => page.evaluate(`(async () => { ${body} })()`);

beforeAll(async () => {
  const network = createModel('edgevit-xxs', { numClasses: 3, size: [64, 96], depths: '1,1,1,1' });
  const source = {
    ...untrained(network),
    augment: parseAugmentation({ mean: [0.4, 0.5, 0.6], centerCrop: 0.8, interpolation: 'bicubic' }),
    classes: ['lily', 'rose', 'tulip'],
  };
  await exportModel(source, 'safetensors', join(folder, 'exported'));
  here = await loadModel(join(folder, 'exported/model.safetensors'));

  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules/edgevit-lab'));
  const { outputFiles } = await build({
    stdin: {
      contents: `
        import * as tf from '@tensorflow/tfjs';
        import { loadModel, loadRun } from 'edgevit-lab';
        Object.assign(globalThis, { tf, loadModel, loadRun });`,
      resolveDir: folder,
    },
    nodePaths: [join(ROOT, 'node_modules')],
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    logLevel: 'error',
  });

  browser = await launchChromium();
  page = await browser.newPage();
  await page.route(`${SITE}**`, async route => {
    const name = new URL(route.request().url()).pathname.slice(1);
    if (name === '') return route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Somebody</title>' });
    if (name.endsWith('.pth')) return route.fulfill({ body: Buffer.from('PK\x03\x04 and so on') });
    const path = join(folder, name);
    return name.includes('none') ? route.fulfill({ status: 404 }) : route.fulfill({ body: readFileSync(path) });
  });
  await page.goto(SITE);
  await page.addScriptTag({ content: outputFiles[0]!.text });
  await inPage("await tf.setBackend('cpu')");
});
afterAll(async () => {
  here?.dispose();
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

function expectSame(said: readonly Prediction[], expected: readonly Prediction[]): void {
  expect(said.map(({ name, label }) => [name, label])).toEqual(expected.map(({ name, label }) => [name, label]));
  said.forEach(({ probability }, i) => expect(probability).toBeCloseTo(expected[i]!.probability, 5));
}

test('loadModel in a bundle predicts what it predicts in Node, from pixels, a Blob, bytes and an address', async () => {
  const rng = random('photo');
  const [width, height] = [120, 90];
  const pixels = Uint8Array.from({ length: width * height * 3 }, () => rng.int(256));
  const png = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  writeFileSync(join(folder, 'photo.png'), png);
  const expected = await here.predict({ width, height, pixels });
  const { model, said } = await inPage<{ model: LoadOptions & LoadedModel; said: Prediction[][] }>(`
    const model = await loadModel('exported/model.safetensors');
    const bytes = new Uint8Array(await (await fetch('photo.png')).arrayBuffer());
    const pixels = { width: ${width}, height: ${height}, pixels: new Uint8Array(${JSON.stringify([...pixels])}) };
    const said = [];
    for (const image of [pixels, new Blob([bytes]), bytes, 'photo.png']) said.push(await model.predict(image));
    const { name, classes, inputSize } = model;
    const before = tf.memory().numTensors;
    model.dispose();
    if (tf.memory().numTensors >= before) throw new Error('nothing was freed');
    return { model: { name, classes, inputSize }, said };`);
  expect(model).toEqual({ name: 'edgevit-xxs', classes: ['lily', 'rose', 'tulip'], inputSize: [64, 96] });
  for (const each of said) expectSame(each, expected);
});

test.each([
  ["loadModel('none.safetensors')", /'none\.safetensors'.*404/],
  ["loadModel('model.pth')", /'model\.pth'.*PyTorch/],
  ["loadModel('photo.png')", /'photo\.png'.*safetensors/],
  ["loadRun('runs/1')", /export/],
  ["loadModel('exported/model.safetensors').then(model => model.predict(new Blob(['text'])))", /no image/],
])('%s is refused in one sentence', async (call, sentence) => {
  const { name, message } = await inPage<Error>(
    `try { await ${call}; } catch ({ name, message }) { return { name, message }; }`,
  );
  expect(name).toBe('UserError');
  expect(message).toMatch(sentence);
});
