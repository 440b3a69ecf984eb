import sharp from 'sharp';
import { expect, test } from 'vitest';
import { overlay } from '../lib/charts/pixels';
import { toSvg } from '../lib/charts/svg';
import { networkInput } from '../lib/data/input';
import { figure, heatPanel, panels, spotlight } from '../lib/jupyter/display/figures';
import { toPicture } from '../lib/jupyter/display/pictures';
import './allclose';

const white = { width: 4, height: 2, pixels: new Uint8Array(24).fill(255) };

test('panels are drawn with their captions, images of the right size and places, equal bytes each time', async () => {
  const draw = () =>
    panels(
      'A claim',
      [{ caption: 'white', picture: white, places: [{ x: 0.5, y: 0.5 }] }, heatPanel('heat', [0, 1, NaN, 2], 2, 2)],
      { side: 80, legend: { title: 'value', low: 'none', high: 'most' } },
      'what is seen',
    );
  const spec = await draw();
  const svg = await toSvg(spec);
  expect(await toSvg(await draw())).toBe(svg);
  for (const text of ['A claim', 'what is seen', 'white', 'heat', 'most']) expect(svg).toContain(`>${text}</text>`);
  const pictures = [
    ...svg.matchAll(/<image [^>]*href="data:image\/png;base64,([^"]+)"[^>]* width="(\d+)" height="(\d+)"/g),
  ];
  expect(pictures.map(([, , width, height]) => [Number(width), Number(height)])).toEqual([
    [80, 40],
    [80, 80],
  ]);
  const { data, info } = await sharp(Buffer.from(pictures[1][1], 'base64'))
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const at = (x: number, y: number) => [...data.subarray(3 * (y * info.width + x), 3 * (y * info.width + x) + 3)];
  expect([at(0, 0), at(10, 70), at(70, 70)]).toEqual([
    [68, 1, 84],
    [255, 255, 255],
    [253, 231, 37],
  ]);
});

test('a figure keeps its specification under the claim', async () => {
  const spec = figure('Bars rise', {
    data: { values: [{ a: 1 }] },
    mark: 'bar',
    encoding: { y: { field: 'a', type: 'quantitative' } },
  });
  expect(await toSvg(spec)).toContain('fill="#0072b2"');
  expect(spec).toMatchObject({ mark: 'bar', title: { text: 'Bars rise' } });
});

test('a spotlight falls where the powers are high', () => {
  const { pixels } = spotlight(white, [0, -1, -2, -Infinity], 1, 4, 2);
  expect([0, 3, 6, 9].map(i => pixels[i])).toEqual([255, 142, 30, 30]);
});

test('what has the shape of an image or a map, and is none, is refused', () => {
  expect(() => spotlight(white, [0, -1], 1, 4, 2)).toThrow(RangeError);
  expect(() => heatPanel('heat', [0, 1, 2], 2, 2)).toThrow(RangeError);
  expect(() => overlay(white, [1, 2, 3], 2, 2)).toThrow(RangeError);
  const input = networkInput(white, [2, 4], { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.25] });
  expect(() => toPicture(input.reshape([2, 4, 3]))).toThrow(RangeError); // normalised for a network
});

test('one image is normalised as for evaluation', () => {
  expect(networkInput(white, [2, 4], { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.25] })).toBeAllclose(
    Array.from({ length: 24 }, (_, i) => (i % 3 === 2 ? 2 : 1)),
  );
  expect(networkInput(white, 3).shape).toEqual([1, 3, 3, 3]);
});

test('an image is a JPEG where that is much smaller, a heat map never', async () => {
  const side = 96;
  const photograph = {
    width: side,
    height: side,
    pixels: Uint8Array.from(
      { length: 3 * side * side },
      (_, i) => 128 + 60 * Math.sin(i / 97) + 60 * Math.cos(i / (7 * side)),
    ),
  };
  const { concat } = (await panels('Pictures', [
    { caption: 'smooth', picture: photograph },
    heatPanel(
      'heat',
      Array.from({ length: 49 }, (_, i) => i),
      7,
      7,
    ),
  ])) as { concat: { layer: { data: { values: { url: string }[] } }[] }[] };
  const [smooth, heat] = concat.map(view => view.layer[0].data.values[0].url);
  expect(smooth).toMatch(/^data:image\/jpeg;base64,/);
  expect(heat).toMatch(/^data:image\/png;base64,/);
  const { data, info } = await sharp(Buffer.from(smooth.split(',')[1], 'base64'))
    .raw()
    .toBuffer({ resolveWithObject: true });
  const scale = info.width / side;
  expect(
    Math.abs(data[3 * (40 * scale * info.width + 40 * scale)] - photograph.pixels[3 * (40 * side + 40)]),
  ).toBeLessThan(12); // JPEG is lossy
});
