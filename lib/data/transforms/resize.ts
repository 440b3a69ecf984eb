import type { Picture } from '../dataset';

/** The part of an image that is kept, in whole pixels. */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export type Interpolation = 'bilinear' | 'bicubic';

const FILTERS: Record<Interpolation, { support: number; weight(x: number): number }> = {
  bilinear: { support: 1, weight: x => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x) {
      const a = -0.5,
        t = Math.abs(x); // Keys' kernel with Pillow's coefficient
      if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
      return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    },
  },
};

const PRECISION = 22; // bits after the point: 8-bit pixels times such weights, summed, still fit in 32 bits

/** For each of an axis' output pixels: the first input pixel it sees, how many, and their weights in fixed point. */
function filterTaps(from: number, to: number, interpolation: Interpolation) {
  const filter = FILTERS[interpolation];
  const scale = from / to;
  const stretch = Math.max(scale, 1); // shrinking widens the filter: that is the antialiasing
  const support = filter.support * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to),
    count = new Int32Array(to),
    weights = new Int32Array(to * most);
  const raw = new Float64Array(most);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const n = Math.min(from, Math.trunc(center + support + 0.5)) - start;
    let sum = 0;
    for (let k = 0; k < n; k++) sum += raw[k] = filter.weight((k + start - center + 0.5) / stretch);
    for (let k = 0; k < n; k++) {
      const weight = (raw[k] / sum) * (1 << PRECISION);
      weights[i * most + k] = Math.trunc(weight + (weight < 0 ? -0.5 : 0.5));
    }
    first[i] = start;
    count[i] = n;
  }
  return { first, count, weights, most };
}

function toByte(sum: number): number {
  const value = sum >> PRECISION;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/**
 * Filters the rows of a box to `to` pixels and transposes: [height, width, 3] → [to, height, 3], so that the same function, applied
 * again, filters the columns and turns the image back. Most images need three taps at most: these are unrolled.
 */
function filterRowsTransposed(
  pixels: Uint8Array,
  stride: number,
  box: Box,
  to: number,
  interpolation: Interpolation,
): Uint8Array {
  const { first, count, weights, most } = filterTaps(box.width, to, interpolation);
  const half = 1 << (PRECISION - 1);
  const out = new Uint8Array(to * box.height * 3);
  for (let x = 0, at = 0; x < to; x++) {
    const n = count[x],
      tap = x * most;
    const w0 = weights[tap],
      w1 = weights[tap + 1],
      w2 = weights[tap + 2];
    let p = (box.y * stride + box.x + first[x]) * 3;
    for (let y = 0; y < box.height; y++, at += 3, p += stride * 3) {
      let r = half + Math.imul(pixels[p], w0),
        g = half + Math.imul(pixels[p + 1], w0),
        b = half + Math.imul(pixels[p + 2], w0);
      if (n > 1) {
        r = (r + Math.imul(pixels[p + 3], w1)) | 0;
        g = (g + Math.imul(pixels[p + 4], w1)) | 0;
        b = (b + Math.imul(pixels[p + 5], w1)) | 0;
      }
      if (n > 2) {
        r = (r + Math.imul(pixels[p + 6], w2)) | 0;
        g = (g + Math.imul(pixels[p + 7], w2)) | 0;
        b = (b + Math.imul(pixels[p + 8], w2)) | 0;
      }
      for (let k = 3, q = p + 9; k < n; k++, q += 3) {
        const w = weights[tap + k];
        r = (r + Math.imul(pixels[q], w)) | 0;
        g = (g + Math.imul(pixels[q + 1], w)) | 0;
        b = (b + Math.imul(pixels[q + 2], w)) | 0;
      }
      out[at] = toByte(r);
      out[at + 1] = toByte(g);
      out[at + 2] = toByte(b);
    }
  }
  return out;
}

/**
 * The box of an image, resized to [height, width, 3] with antialiasing, as torchvision's transforms do it by Pillow: the
 * same fixed-point weights, and bytes between the passes over rows and columns. It is `crop(box).resize((width, height))`
 * to the byte, unless Pillow begins with the columns, as it may for tall boxes: then some bytes are rounded otherwise.
 */
export function resizeBox(
  picture: Picture,
  box: Box,
  [height, width]: readonly [number, number],
  interpolation: Interpolation = 'bilinear',
): Uint8Array {
  const columns = filterRowsTransposed(picture.pixels, picture.width, box, width, interpolation);
  return filterRowsTransposed(
    columns,
    box.height,
    { x: 0, y: 0, width: box.height, height: width },
    height,
    interpolation,
  );
}
