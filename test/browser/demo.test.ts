import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { legible, overlay } from '../../lib/charts/pixels';
import { attentionOver } from '../../lib/cli/support/attention';
import type { Picture } from '../../lib/data/dataset';
import { type Served, serve } from '../../lib/demo/serve';
import { writeSite } from '../../lib/demo/site';
import type { Exportable } from '../../lib/export/exportable';
import { createModel } from '../../lib/model/registry';
import { compiledPredictor } from '../../lib/runs/predictor';
import type { Predictor } from '../../lib/train/predictor';
import { random } from '../../lib/util/random';
import { exportable } from '../onnx/compare';
import { launchChromium } from './chromium';
import { DemoPage } from './demoPage';

// The demo's page as a person uses it, on a tiny network that never was trained.

const SET = ['depths=1,1,2,1', 'dims=8,16,16,24', 'heads=1,2,1,2', 'mlpRatio=2'];

const folder = mkdtempSync(join(tmpdir(), 'edgevit-demo-'));
let browser: Browser;
let source: Exportable;
let predictor: Predictor;
const served: Served[] = [];

beforeAll(async () => {
  browser = await launchChromium();
  const fresh = exportable(createModel('edgevit-xxs', { numClasses: 7, size: 64, set: SET }));
  source = { ...fresh, augment: { ...fresh.augment, centerCrop: 0.9 } };
  await writeSite(source, folder);
  predictor = compiledPredictor(source);
  served.push(await serve(folder), await serve(folder, 0, {}));
});
afterAll(async () => {
  await browser?.close();
  for (const { close } of served) close();
  predictor?.dispose();
  rmSync(folder, { recursive: true, force: true });
});

/** A synthetic photograph: a disc of one colour on another, with noise. */
function photo(seed: number, width: number, height: number): Picture {
  const rng = random(`photo ${seed}`);
  const [disc, ground] = [0, 1].map(() => [0, 1, 2].map(() => rng.int(256))) as [number[], number[]];
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const [x, y] = [(Math.floor(i / 3) % width) / width - 0.5, Math.floor(i / 3 / width) / height - 0.5];
    return ((x * x + y * y < 0.1 ? disc : ground)[i % 3]! + 16 * rng.uniform()) % 256;
  });
  return { width, height, pixels };
}

const png = ({ width, height, pixels }: Picture): Promise<Buffer> =>
  sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();

test('tells of images what `npm run predict` tells of them, with the same attention, and asks nobody else', async () => {
  const demo = await DemoPage.open(browser, served[0]!.url);
  await demo.ready();
  for (const [i, [width, height]] of [
    [64, 64],
    [90, 70],
    [120, 250],
  ].entries() as Iterable<[number, [number, number]]>) {
    const picture = photo(i, width, height);
    const top = await demo.classify(`photo-${i}.png`, await png(picture));
    const expected = (await predictor.predict(picture)).slice(0, 5);
    expect(top.map(({ name }) => name)).toEqual(expected.map(({ name }) => name));
    top.forEach(({ probability }, k) => expect(Math.abs(probability - expected[k]!.probability)).toBeLessThan(1e-4));

    const { picture: seen, blocks } = attentionOver(picture, source);
    const [last] = blocks.slice(-1);
    const maps = await demo.maps();
    expect(maps).toHaveLength(last!.heads.length);
    for (const [head, map] of maps.entries()) {
      const ours = overlay(legible(seen, 192), last!.heads[head]!, ...last!.grid).pixels;
      // Colours are rounded from weights that were summed in another order.
      const off = map.filter((value, at) => Math.abs(value - ours[at]!) > 2);
      expect(map.length).toBe(ours.length);
      expect(off.length).toBeLessThan(map.length / 1000);
    }
  }
  expect(demo.requests.filter(url => !url.startsWith(served[0]!.url) && !url.startsWith('blob:'))).toEqual([]);
  expect(demo.errors).toEqual([]);
  await demo.page.close();
});

test('by the keyboard alone: another block is chosen, backends are measured', async () => {
  const demo = await DemoPage.open(browser, served[0]!.url);
  const { page } = demo;
  await demo.ready();
  await demo.classify('photo.png', await png(photo(3, 64, 64)));
  await page.locator('#photo').focus();
  await page.keyboard.press('Tab');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowUp');
  expect(await page.locator('input[name=block]:checked').inputValue()).toBe('blocks2.0');
  expect(await page.locator('#maps canvas').count()).toBe(2);
  expect(await page.locator('#maps canvas').first().getAttribute('aria-label')).toContain('blocks2.0, head 1');

  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator('#latencies tr').first().waitFor();
  const rows = await page.locator('#latencies tr').allTextContents();
  expect(rows.filter(row => /^ONNX Runtime, WebAssembly.*\d \(/.test(row))).toHaveLength(2);
  expect(rows.filter(row => /^TensorFlow\.js, WebAssembly.*\d \(/.test(row))).toHaveLength(1);
  expect(rows.filter(row => /^ONNX Runtime, WebGPU/.test(row))).toHaveLength(2);
  expect(demo.errors).toEqual([]);
  await page.close();
});

test('an image that is none is said to be none, and the page goes on', async () => {
  const demo = await DemoPage.open(browser, served[0]!.url);
  await demo.ready();
  await demo.page
    .locator('#photo')
    .setInputFiles({ name: 'notes.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('no image') });
  await demo.page.locator('#status', { hasText: 'notes.jpg' }).waitFor();
  await expect.poll(() => demo.status()).toContain('no image');
  expect(await demo.classify('photo.png', await png(photo(4, 64, 64)))).toHaveLength(5);
  await demo.page.close();
});

test('without isolation WebAssembly has one thread, and from a file the page says how to serve it', async () => {
  const alone = await DemoPage.open(browser, served[1]!.url);
  await alone.ready();
  expect(await alone.page.locator('#threads').textContent()).toContain('one thread');
  expect(await alone.classify('photo.png', await png(photo(5, 64, 64)))).toHaveLength(5);
  await alone.page.close();

  const file = await DemoPage.open(browser, pathToFileURL(join(folder, 'index.html')).href);
  expect(await file.page.locator('#unserved').isVisible()).toBe(true);
  await file.page.close();
});

test('fits a phone, and its scripts are small', async () => {
  const demo = await DemoPage.open(browser, served[0]!.url);
  await demo.page.setViewportSize({ width: 360, height: 740 });
  await demo.ready();
  await demo.classify('photo.png', await png(photo(6, 64, 64)));
  expect(await demo.page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
  await demo.page.close();
  const scripts = readdirSync(folder).filter(file => file.endsWith('.js'));
  const bytes = scripts.reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);
  expect(bytes).toBeLessThan(1e6); // those of the runtimes included
});

test('the server hands out the files of its folder alone, to this machine', async () => {
  const [{ url }] = served as [Served];
  const status = async (path: string, headers = {}) => (await fetch(new URL(path, url), { headers })).status;
  expect(await status('/demo.json')).toBe(200);
  expect(await status('/%2e%2e/%2e%2e/etc/passwd')).toBe(404);
  expect(await status('/..%2f..%2fetc%2fpasswd')).toBe(404);
  expect(await status('/models')).toBe(404);
  expect((await fetch(url, { method: 'POST' })).status).toBe(405);
});
