import type { Picture } from './dataset';

/** The part of a picture that is kept, in whole pixels. */
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
      const a = -0.5, t = Math.abs(x); // Keys' kernel with Pillow's coefficient
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
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to), count = new Int32Array(to), weights = new Int32Array(to * stride);
  const raw = new Float64Array(stride);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const n = Math.min(from, Math.trunc(center + support + 0.5)) - start;
    let sum = 0;
    for (let k = 0; k < n; k++) sum += raw[k] = filter.weight((k + start - center + 0.5) / stretch);
    for (let k = 0; k < n; k++) {
      const weight = (raw[k] / sum) * (1 << PRECISION);
      weights[i * stride + k] = Math.trunc(weight + (weight < 0 ? -0.5 : 0.5));
    }
    first[i] = start;
    count[i] = n;
  }
  return { first, count, weights, stride };
}

function toByte(sum: number): number {
  const value = sum >> PRECISION;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/** Filters rows: [height, …] pixels of the box → [height, to, 3]. */
function resizeRows(picture: Picture, box: Box, to: number, interpolation: Interpolation): Uint8Array {
  const { pixels, width } = picture;
  const { first, count, weights, stride } = filterTaps(box.width, to, interpolation);
  const out = new Uint8Array(box.height * to * 3);
  for (let y = 0, at = 0; y < box.height; y++) {
    const row = ((box.y + y) * width + box.x) * 3;
    for (let x = 0; x < to; x++, at += 3) {
      let r = 1 << (PRECISION - 1), g = r, b = r;
      const tap = x * stride;
      for (let k = 0, p = row + first[x] * 3, n = count[x]; k < n; k++, p += 3) {
        const w = weights[tap + k];
        r = (r + pixels[p] * w) | 0;
        g = (g + pixels[p + 1] * w) | 0;
        b = (b + pixels[p + 2] * w) | 0;
      }
      out[at] = toByte(r);
      out[at + 1] = toByte(g);
      out[at + 2] = toByte(b);
    }
  }
  return out;
}

/** Filters columns: [from, width, 3] → [to, width, 3]. */
function resizeColumns(pixels: Uint8Array, from: number, width: number, to: number, interpolation: Interpolation): Uint8Array {
  const { first, count, weights, stride } = filterTaps(from, to, interpolation);
  const row = width * 3;
  const out = new Uint8Array(to * row), sums = new Int32Array(row);
  for (let y = 0; y < to; y++) {
    sums.fill(1 << (PRECISION - 1));
    for (let k = 0; k < count[y]; k++) {
      const w = weights[y * stride + k];
      for (let i = 0, p = (first[y] + k) * row; i < row; i++, p++) sums[i] = sums[i] + pixels[p] * w;
    }
    for (let i = 0, at = y * row; i < row; i++, at++) out[at] = toByte(sums[i]);
  }
  return out;
}

/**
 * The box of a picture, resized to [height, width, 3] with antialiasing: Pillow's `crop(box).resize((width, height))`
 * to the byte (fixed-point weights, 8 bits between the passes), which is what torchvision's transforms do.
 */
export function resizeBox(picture: Picture, box: Box, [height, width]: readonly [number, number], interpolation: Interpolation = 'bilinear'): Uint8Array {
  return resizeColumns(resizeRows(picture, box, width, interpolation), box.height, width, height, interpolation);
}
