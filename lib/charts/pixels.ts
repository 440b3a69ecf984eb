import type { Picture } from '../data/dataset';
import { counted } from '../util/text';

/** Seven colours of matplotlib's viridis, evenly spaced: even in brightness, and readable by the colour-blind. */
const VIRIDIS = [
  [68, 1, 84],
  [68, 57, 131],
  [49, 104, 142],
  [33, 145, 140],
  [53, 183, 121],
  [144, 215, 67],
  [253, 231, 37],
] as const;

/** Values row by row as colours, from the smallest (or `range[0]`) to the largest. What is no number is white. */
export function heatMap(values: ArrayLike<number>, width: number, height: number, range = extent(values)): Picture {
  requireLength('A heat map', values, width, height);
  const [low, high] = range;
  const pixels = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const share = high > low ? (values[i] - low) / (high - low) : 0;
    pixels.set(Number.isFinite(share) ? viridis(share) : [255, 255, 255], 3 * i);
  }
  return { width, height, pixels };
}

/** Throws RangeError for values that are not one for each place. */
export function requireLength(what: string, values: ArrayLike<number>, width: number, height: number): void {
  if (values.length !== width * height)
    throw new RangeError(
      `${what} of ${counted(height, 'row')} and ${counted(width, 'column')} takes ${counted(width * height, 'value')}, not ${values.length}.`,
    );
}

function viridis(share: number): number[] {
  const at = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
  const index = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[index].map((from, c) => Math.round(from + (at - index) * (VIRIDIS[index + 1][c] - from)));
}

/** The least and the greatest finite value; [0, 0] if there is none. */
export function extent(values: ArrayLike<number>): [least: number, greatest: number] {
  let least = Infinity;
  let greatest = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) continue;
    least = Math.min(least, values[i]);
    greatest = Math.max(greatest, values[i]);
  }
  return least <= greatest ? [least, greatest] : [0, 0];
}

/** Whole pixels become squares, so that a map of 14 × 14 values is seen as such. */
export function enlarge({ width, height, pixels }: Picture, factor: number): Picture {
  const large = new Uint8Array(pixels.length * factor * factor);
  for (let y = 0, to = 0; y < height * factor; y++) {
    for (let x = 0; x < width * factor; x++, to += 3) {
      const from = 3 * (Math.floor(y / factor) * width + Math.floor(x / factor));
      large.set(pixels.subarray(from, from + 3), to);
    }
  }
  return { width: width * factor, height: height * factor, pixels: large };
}

/** Enlarged so far that the longer side reaches `side` pixels or comes close to it. */
export function legible(picture: Picture, side: number): Picture {
  return enlarge(picture, Math.max(1, Math.floor(side / Math.max(picture.width, picture.height))));
}

/** Images in rows of `columns`, on white, with a gap between them. */
export function mosaic(pictures: readonly Picture[], columns: number, gap = 2): Picture {
  const cellWidth = Math.max(...pictures.map(({ width }) => width)) + gap;
  const cellHeight = Math.max(...pictures.map(({ height }) => height)) + gap;
  const width = Math.min(columns, pictures.length) * cellWidth - gap;
  const height = Math.ceil(pictures.length / columns) * cellHeight - gap;
  const pixels = new Uint8Array(width * height * 3).fill(255);
  pictures.forEach((picture, i) => {
    const left = (i % columns) * cellWidth;
    const top = Math.floor(i / columns) * cellHeight;
    for (let y = 0; y < picture.height; y++)
      pixels.set(
        picture.pixels.subarray(y * picture.width * 3, (y + 1) * picture.width * 3),
        ((top + y) * width + left) * 3,
      );
  });
  return { width, height, pixels };
}

/** Weights [rows × columns], whatever their sum, over an image: blended in by colour, between their centres bilinearly. */
export function overlay(
  { width, height, pixels }: Picture,
  weights: ArrayLike<number>,
  rows: number,
  columns: number,
  strength = 0.6,
): Picture {
  requireLength('An overlay', weights, columns, rows);
  const smooth = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    const [top, down] = neighbour(y, height, rows);
    for (let x = 0; x < width; x++) {
      const [left, right] = neighbour(x, width, columns);
      const row = (r: number): number =>
        (1 - right) * weights[r * columns + left] + right * weights[r * columns + Math.min(left + 1, columns - 1)];
      smooth[y * width + x] = (1 - down) * row(top) + down * row(Math.min(top + 1, rows - 1));
    }
  }
  const colours = heatMap(smooth, width, height).pixels;
  return {
    width,
    height,
    pixels: pixels.map((value, i) => Math.round((1 - strength) * value + strength * colours[i])),
  };
}

/** The cell before the pixel's centre, and how far (0..1) it lies towards the next. */
function neighbour(pixel: number, pixels: number, cells: number): [cell: number, share: number] {
  const at = Math.min(cells - 1, Math.max(0, ((pixel + 0.5) * cells) / pixels - 0.5));
  return [Math.floor(at), at - Math.floor(at)];
}
