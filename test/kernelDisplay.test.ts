import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { enlarge, mosaic } from '../lib/charts/pixels';
import { toSvg } from '../lib/charts/svg';
import { heatMap, overlay, show, showTable, toPicture } from '../lib/jupyter/display/display';
import type { Message } from '../lib/jupyter/protocol/message';
import { tf } from '../lib/tensor/tf';
import { startKernel } from './kernelHelper';

const BARS = {
  title: 'Bars',
  data: {
    values: [
      { a: 'x', b: 1 },
      { a: 'y', b: 3 },
    ],
  },
  mark: { type: 'bar', clip: true },
  encoding: { x: { field: 'a', type: 'nominal' }, y: { field: 'b', type: 'quantitative' } },
};

describe('in a notebook', () => {
  let { kernel, run } = {} as Awaited<ReturnType<typeof startKernel>>;
  beforeAll(async () => {
    ({ kernel, run } = await startKernel());
    await run(
      'import * as lab from "./lib/jupyter/display/display"; import { openEngine } from "./lib/engine/open"; import { tf } from "./lib/tensor/tf"; await openEngine(); const random = tf.randomUniform([14, 14, 3], 0, 1, "float32", 1);',
    );
  });
  afterAll(() => kernel.stop());

  const shown = (messages: Message[]): Record<string, string>[] =>
    messages.filter(m => m.header.msg_type === 'display_data').map(m => m.content.data as Record<string, string>);

  test('a chart is a bundle that JupyterLab, GitHub and a terminal can each show, equal bytes each time', async () => {
    const { messages } = await run(`const spec = ${JSON.stringify(BARS)};\nlab.show(spec); lab.show(spec);`);
    const [first, second] = shown(messages);
    expect(first).toEqual(second);
    expect(first['application/vnd.vegalite.v5+json']).toEqual({
      ...BARS,
      $schema: 'https://vega.github.io/schema/vega-lite/v5.json',
    });
    expect(first['image/svg+xml']).toMatch(/^<svg[\s\S]*Bars[\s\S]*<\/svg>$/);
    expect(first['text/plain']).toBe('[chart: Bars, 2 rows]');
  });

  test('a chart that cannot be drawn fails its cell, which learns where and why', async () => {
    const { errors, count } = await run(
      'const rows: object[] = [];\nlab.show({ mark: "barr", data: { values: rows } });',
    );
    expect(errors[0]!.evalue).toMatch(/'barr'.* bar,/);
    expect(errors[0]!.traceback.join('\n')).toContain(`cell[${count}]:2:`);
  });

  test('a tensor is its shape, type and values, also in what is printed; a model its layers', async () => {
    const tensor = await run('const two = tf.tensor1d([1, 2]); console.log({ two }); two');
    expect(tensor.result).toMatch(/^Tensor float32 \[2\]\n\s*\[1, 2\]$/);
    expect(tensor.stdout).toMatch(/two: Tensor float32 \[2\]\n\s*\[1, 2\]/);
    const { result } = await run(
      'import { createModel } from "./lib/model/registry"; createModel("edgevit-xxs", { numClasses: 5, size: 32 })',
    );
    expect(result).toMatch(/^edgevit-xxs: images \[b, 32, 32, 3\] → logits \[b, 5\]\n/);
    expect(result).toMatch(/\nhead +1,445 +1,440\ntotal +\d,\d{3},\d{3} /);
    const layers = await run(
      'const net = tf.sequential(); net.add(tf.layers.dense({ units: 2, inputShape: [3] })); net',
    );
    expect(layers.result).toMatch(/dense_Dense1[^\n]*8\s/);
  });

  test('a table has HTML and text', async () => {
    const [data] = shown(
      (
        await run(
          'lab.showTable([{ model: "XXS", params: 4067704, top1: 0.88654 }, { model: "<S>", params: 13108168, top1: null }])',
        )
      ).messages,
    );
    expect(data['text/plain']).toBe(
      ['model      params    top1', '─────  ──────────  ──────', 'XXS     4,067,704  0.8865', '<S>    13,108,168'].join(
        '\n',
      ),
    );
    expect(data['text/html']).toContain('&#60;S&#62;');
  });

  test('an image is a PNG of its pixels, a caption is read beside it', async () => {
    const [bare, named] = shown(
      (await run('lab.showImage(random); lab.showImage(random, { caption: "noise" })')).messages,
    );
    expect(await sharp(Buffer.from(bare['image/png'], 'base64')).metadata()).toMatchObject({
      width: 224,
      height: 224,
      channels: 3,
    });
    expect(named['text/html']).toContain('noise</td>');
    expect(named['text/plain']).toBe('noise: 14 × 14');
  });

  test('grids, tensors and attention maps are shown', async () => {
    const { status, messages } = await run(`
      lab.showImages([random, random, random], { columns: 2 });
      lab.showTensor(tf.tensor2d([[1, 2], [3, NaN]]), { caption: 'weights' });
      lab.showTensor(random.expandDims(0));
      lab.showAttention(random, { weights: tf.fill([1, 2, 6, 6], 1 / 6), grid: [2, 3] }, { query: [1, 2] });`);
    expect(status).toBe('ok');
    const all = shown(messages);
    expect(
      await sharp(Buffer.from(all.find(data => data['text/plain'] === '3 images')!['image/png'], 'base64')).metadata(),
    ).toMatchObject({ width: 2 * 84 + 2, height: 2 * 84 + 2 });
    expect(all.map(data => data['text/plain'])).toContain(
      'weights: float32 [2, 2], min 1, mean 2, max 3, std 0.8165, 1 not finite',
    );
    expect(all.map(data => data['text/plain'])).toContain(
      'attention of the delegate at 1, 2 over 2 × 3 delegates, 2 heads',
    );
  });

  test('what is asked for first stands first, though it takes longer to draw', async () => {
    const { messages } = await run(
      'lab.show(spec); lab.showTable([{ a: 1 }]); lab.progressBar(1).to(1); lab.showTable([{ b: 1 }])',
    );
    expect(shown(messages).map(data => data['text/plain'].slice(0, 6))).toEqual(['[chart', 'a\n─\n1', '', 'b\n─\n1']);
  });

  test('live outputs change in place, and end the same however long they took', async () => {
    const { messages } = await run(`
      const curve = lab.liveCurve({ title: 'loss' }), bar = lab.progressBar(20, 'epoch');
      for (let step = 1; step <= 20; step++) {
        curve.add({ step, train: 1 / step });
        bar.to(step, \`loss \${(1 / step).toFixed(2)}\`);
        await new Promise(done => setTimeout(done, 30));
      }
      await curve.end();`);
    const displays = messages.filter(m => /display_data$/.test(m.header.msg_type));
    const ids = new Set(displays.map(m => (m.content.transient as { display_id: string }).display_id));
    expect(ids.size).toBe(2);
    expect(displays.filter(m => m.header.msg_type === 'display_data')).toHaveLength(2);
    const last = [...ids].map(
      id =>
        displays.filter(m => (m.content.transient as { display_id: string }).display_id === id).at(-1)!.content
          .data as Record<string, string>,
    );
    expect(last.map(data => data['text/plain']).sort()).toEqual(
      ['[chart: loss, 20 rows]', 'epoch ████████████████████████ 20/20 · loss 0.05'].sort(),
    );
    expect(
      last.find(data => data['text/plain'].startsWith('[chart'))!['application/vnd.vegalite.v5+json'],
    ).toBeDefined();
  });
});

test('outside a notebook the text is printed', async () => {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  try {
    await show(BARS);
    await showTable([{ a: 1 }]);
    expect(log.mock.calls).toEqual([['[chart: Bars, 2 rows]'], ['a\n─\n1']]);
  } finally {
    log.mockRestore();
  }
});

test('charts drawn at once have equal bytes for equal specifications, and ids of their own', async () => {
  const other = { ...BARS, title: 'Other' };
  const [first, second, third] = await Promise.all([toSvg(BARS), toSvg(other), toSvg(BARS)]);
  expect(third).toBe(first);
  const id = /id="(chart-\w+)-clip/;
  expect(id.exec(first)![1]).not.toBe(id.exec(second)![1]);
});

test('pixels: tensors of either type, colour maps, enlarging, mosaics, overlays', () => {
  const rgb = { width: 1, height: 2, pixels: Uint8Array.of(255, 0, 128, 10, 20, 30) };
  expect(toPicture(tf.tensor3d([255, 0, 128, 10, 20, 30], [2, 1, 3], 'int32'))).toEqual(rgb);
  expect(toPicture(tf.tensor2d([[0, 1]])).pixels).toEqual(Uint8Array.of(0, 0, 0, 255, 255, 255));
  expect(() => toPicture(tf.tensor2d([[0, 2]]))).toThrow(RangeError);
  expect(() => toPicture(tf.zeros([2, 2, 2]))).toThrow(/not \[2, 2, 2\]/);
  expect(heatMap([0, 1, NaN], 3, 1).pixels).toEqual(Uint8Array.of(68, 1, 84, 253, 231, 37, 255, 255, 255));
  expect(enlarge(rgb, 2).pixels.slice(0, 9)).toEqual(Uint8Array.of(255, 0, 128, 255, 0, 128, 255, 0, 128));
  expect(mosaic([rgb, rgb, rgb], 2, 1)).toMatchObject({ width: 3, height: 5 });
  const grey = { width: 4, height: 4, pixels: new Uint8Array(48).fill(100) };
  expect(overlay(grey, [0, 1], 1, 2, 0).pixels).toEqual(grey.pixels);
  const [left, right] = [0, 9].map(at => overlay(grey, [0, 1], 1, 2, 1).pixels.slice(at, at + 3));
  expect([...left, ...right]).toEqual([68, 1, 84, 253, 231, 37]);
});
