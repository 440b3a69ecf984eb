import { resolve } from 'node:path';
import { build } from 'esbuild';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createModel } from '../../lib/model/registry';
import { tf } from '../../lib/tensor/tf';
import { launchChromium } from './chromium';

// lib/model on a page: no Node, no engine of the lab's, plain TensorFlow.js.

const ROOT = resolve(__dirname, '../..');
const SIZE = 64;

/** A page's script: an EdgeViT-XXS of seed 0 looks at an image of values that both sides can make. */
const PAGE = `
  import * as tf from '@tensorflow/tfjs';
  import { provideTf } from './lib/tensor/tf';
  import { createModel } from './lib/model/registry';

  globalThis.logits = async () => {
    await tf.setBackend('cpu');
    provideTf(tf);
    const model = createModel('edgevit-xxs', { numClasses: 5, size: ${SIZE} });
    const { params, buffers } = model.init(0);
    const image = tf.tensor4d(Float32Array.from({ length: ${SIZE ** 2 * 3} }, (_, i) => Math.sin(i)), [1, ${SIZE}, ${SIZE}, 3]);
    return [...model.forward(image, params, buffers, { train: false }).logits.dataSync()];
  };
`;

let browser: Browser;
beforeAll(async () => {
  browser = await launchChromium();
});
afterAll(() => browser?.close());

test('lib/model bundles for the browser without Node, and computes there what the engine computes', async () => {
  const { outputFiles, metafile } = await build({
    stdin: { contents: PAGE, resolveDir: ROOT, loader: 'ts' },
    bundle: true,
    write: false,
    metafile: true,
    platform: 'browser',
    format: 'iife',
    logLevel: 'error',
  });
  const own = Object.keys(metafile.inputs).filter(path => path.startsWith('lib/'));
  expect(own.filter(path => !/^lib\/(util|tensor|model)\//.test(path))).toEqual([]);
  expect(
    own
      .flatMap(path => metafile.inputs[path]!.imports.map(({ path }) => path))
      .filter(path => path.startsWith('node:')),
  ).toEqual([]);

  const page = await browser.newPage();
  await page.addScriptTag({ content: outputFiles[0]!.text });
  const inBrowser = (await page.evaluate('logits()')) as number[];

  const model = createModel('edgevit-xxs', { numClasses: 5, size: SIZE });
  const { params, buffers } = model.init(0);
  const image = tf.tensor4d(
    Float32Array.from({ length: SIZE ** 2 * 3 }, (_, i) => Math.sin(i)),
    [1, SIZE, SIZE, 3],
  );
  const here = [...model.forward(image, params, buffers, { train: false }).logits.dataSync()];
  expect(inBrowser).toHaveLength(5);
  const largest = Math.max(...here.map(Math.abs));
  // Float32 sums in another order, through 7 blocks.
  inBrowser.forEach((value, i) => expect(Math.abs(value - here[i]!)).toBeLessThan(1e-4 * largest));
});
