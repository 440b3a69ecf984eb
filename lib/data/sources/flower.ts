import { atan2, cos, exp, log, sin } from '../../util/elementary';
import { power } from '../../util/power';
import type { Random } from '../../util/random';

export interface Form {
  petals: number;
  shape: 'round' | 'pointed' | 'notched' | 'narrow';
}

/** What a species has in common; the rest of an image is drawn at random. */
export interface Species {
  form: Form;
  /** Degrees. */
  hue: number;
  saturation: number;
  /** Standard deviation, in units of full scale. */
  noise: number;
}

type Colour = readonly [red: number, green: number, blue: number];

const TURN = 2 * Math.PI;
const between = (rng: Random, low: number, high: number): number => low + (high - low) * rng.uniform();
const clamp = (x: number): number => (x < 0 ? 0 : x > 1 ? 1 : x);

/** Hue in degrees, saturation and value in [0, 1] → bytes, unrounded. */
function hsv(hue: number, saturation: number, value: number): Colour {
  const channel = (n: number): number => {
    const k = (n + hue / 60 + 6) % 6;
    return 255 * clamp(value) * (1 - clamp(saturation) * Math.max(0, Math.min(k, 4 - k, 1)));
  };
  return [channel(5), channel(3), channel(1)];
}

/** How far a petal reaches at a place across it, from −1 over its axis at 0 to 1, where the next petal begins. */
const OUTLINES: Record<Form['shape'], (across: number) => number> = {
  round: across => 0.3 + 0.7 * Math.sqrt(1 - power(across, 2)),
  pointed: across => 0.3 + 0.7 * exp(0.9 * log(1 - Math.abs(across))),
  notched: across => 0.3 + 0.7 * Math.sqrt(1 - power(across, 4)) - 0.38 * exp(-power(across / 0.3, 2)),
  narrow: across => 0.22 + 0.78 * Math.sqrt(Math.max(0, 1 - power(across / 0.7, 2))),
};

const ANGLES = 2048;

/** The flower in polar coordinates: per angle the outline, the factor from radial to true distance from it, and the light. */
function polarFlower({ petals, shape }: Form, rng: Random) {
  const lengths = Array.from({ length: petals }, () => between(rng, 0.9, 1));
  const veins = rng.int(3) + 2,
    crease = between(rng, 0.1, 0.3);
  const outline = new Float64Array(ANGLES),
    slope = new Float64Array(ANGLES),
    light = new Float64Array(ANGLES);
  for (let i = 0; i < ANGLES; i++) {
    const position = ((i + 0.5) / ANGLES) * petals,
      petal = Math.floor(position);
    const across = 2 * (position - petal) - 1;
    outline[i] = OUTLINES[shape](across) * lengths[petal];
    light[i] = 1 - crease * power(across, 4) - 0.05 * (1 + cos(veins * TURN * across));
  }
  for (let i = 0; i < ANGLES; i++) {
    const derivative = ((outline[(i + 1) % ANGLES] - outline[(i + ANGLES - 1) % ANGLES]) * ANGLES) / (2 * TURN);
    slope[i] = Math.max(0.2, 1 / Math.sqrt(1 + power(derivative / outline[i], 2))); // between two petals it would fall to 0
  }
  return { outline, slope, light };
}

/** Out-of-focus surroundings: colours of leaves, soil and sky on a coarse grid, with spots in the colours of other flowers, smoothly joined. */
function drawBackground(out: Uint8ClampedArray, size: number, rng: Random): void {
  const cells = 4 + rng.int(4);
  const hue = [105, 105, 30, 215][rng.int(4)],
    value = between(rng, 0.2, 0.7);
  const grid: Colour[] = Array.from({ length: power(cells + 1, 2) }, () =>
    rng.uniform() < 0.12
      ? hsv(between(rng, 0, 360), between(rng, 0, 0.8), between(rng, 0.5, 1))
      : hsv(hue + between(rng, -30, 30), between(rng, 0.2, 0.7), value * between(rng, 0.5, 1.4)),
  );
  const ease = (t: number) => t * t * (3 - 2 * t);
  for (let y = 0, at = 0; y < size; y++) {
    const v = (y / size) * cells,
      row = Math.floor(v),
      down = ease(v - row);
    for (let x = 0; x < size; x++) {
      const u = (x / size) * cells,
        column = Math.floor(u),
        right = ease(u - column);
      const corner = row * (cells + 1) + column;
      const a = grid[corner],
        b = grid[corner + 1],
        c = grid[corner + cells + 1],
        d = grid[corner + cells + 2];
      for (let channel = 0; channel < 3; channel++) {
        const top = a[channel] + (b[channel] - a[channel]) * right,
          bottom = c[channel] + (d[channel] - c[channel]) * right;
        out[at++] = top + (bottom - top) * down;
      }
    }
  }
}

/** Adds noise of a triangular distribution by xorshift32: cheaper by far than normal numbers, and as good for the purpose. */
function addNoise(out: Uint8ClampedArray, deviation: number, rng: Random): void {
  const scale = (255 * deviation * Math.sqrt(6)) / 0xffff; // the sum of two uniforms on [0, 1] has variance 1/6
  let state = rng.int(0x7fffffff) + 1;
  for (let i = 0; i < out.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    out[i] += ((state & 0xffff) + (state >>> 16) - 0xffff) * scale;
  }
}

/** Draws one flower of a species, [size, size, 3]: antialiased by each pixel's distance from the outline. */
export function drawFlower(
  out: Uint8ClampedArray,
  size: number,
  { form, hue, saturation, noise }: Species,
  rng: Random,
): void {
  drawBackground(out, size, rng);
  const { outline, slope, light } = polarFlower(form, rng);

  const radius = size * between(rng, 0.3, 0.46);
  const centerX = size * between(rng, 0.4, 0.6),
    centerY = size * between(rng, 0.4, 0.6);
  const rotation = between(rng, 0, TURN);
  // Seen from the side a flower is narrower along one axis: pixels are mapped back to the flower's own plane.
  const tilt = between(rng, 0, TURN),
    stretch = 1 / between(rng, 0.65, 1),
    cosine = cos(tilt),
    sine = sin(tilt);

  const value = between(rng, 0.7, 1);
  const tip = hsv(hue + between(rng, -14, 14), saturation * between(rng, 0.8, 1.15), value);
  const base = hsv(hue + between(rng, -25, 25), saturation * between(rng, 0.6, 1.3), value * between(rng, 0.7, 1));
  const disc = hsv(between(rng, 20, 80), between(rng, 0.5, 0.9), between(rng, 0.25, 0.95));
  const discRadius = between(rng, 0.12, 0.22);
  const shadow = between(rng, 0.1, 0.6);

  for (let y = 0, at = 0; y < size; y++) {
    for (let x = 0; x < size; x++, at += 3) {
      const dx = (x + 0.5 - centerX) / radius,
        dy = (y + 0.5 - centerY) / radius;
      const along = dx * cosine + dy * sine,
        across = (dy * cosine - dx * sine) * stretch;
      const r = Math.sqrt(along * along + across * across);
      if (r > 1.3) continue;
      const turns = (atan2(across, along) + rotation) / TURN;
      const i = Math.floor((turns - Math.floor(turns)) * ANGLES) % ANGLES;
      const distance = (outline[i] - r) * slope[i]; // > 0 inside
      const petal = clamp(distance * radius + 0.5),
        center = clamp((discRadius - r) * radius + 0.5);
      const shade = 1 - shadow * clamp((1.3 - r) * 2); // of the flower, on what is behind it
      const reach = clamp(r / outline[i]),
        bright = light[i] * (0.75 + 0.25 * reach);
      for (let channel = 0; channel < 3; channel++) {
        const flower = (base[channel] + (tip[channel] - base[channel]) * reach) * bright;
        const behind = out[at + channel] * shade;
        const color = behind + (flower - behind) * petal;
        out[at + channel] = color + (disc[channel] * (1 - 0.3 * (r / discRadius)) - color) * center;
      }
    }
  }
  if (noise > 0) addNoise(out, noise, rng);
}
