import type { Random } from '../../util/random';
import type { Augmentation } from './augmentation';

/** Changes [pixels, 3] in place. */
type ColourChange = (pixels: Uint8Array, factor: number) => void;

/** As Pillow's `Image.blend(degenerate, image, factor)`: float32 arithmetic, cut off at a byte's bounds, truncated. */
function blend(degenerate: number, value: number, factor: number): number {
  const mixed = Math.fround(degenerate + Math.fround(factor * (value - degenerate)));
  return mixed <= 0 ? 0 : mixed >= 255 ? 255 : mixed | 0;
}

/** ITU-R 601 luma as Pillow rounds it. */
function luma(r: number, g: number, b: number): number {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

/** Blends with one grey, the same for all pixels. */
function blendWith(grey: number, pixels: Uint8Array, factor: number): void {
  const table = new Uint8Array(256);
  for (let value = 0; value < 256; value++) table[value] = blend(grey, value, Math.fround(factor));
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[pixels[i]];
}

export const adjustBrightness: ColourChange = (pixels, factor) => blendWith(0, pixels, factor);

export const adjustContrast: ColourChange = (pixels, factor) => {
  let sum = 0;
  for (let i = 0; i < pixels.length; i += 3) sum += luma(pixels[i], pixels[i + 1], pixels[i + 2]);
  blendWith(Math.trunc(sum / (pixels.length / 3) + 0.5), pixels, factor);
};

export const adjustSaturation: ColourChange = (pixels, factor) => {
  const f = Math.fround(factor);
  for (let i = 0; i < pixels.length; i += 3) {
    const r = pixels[i],
      g = pixels[i + 1],
      b = pixels[i + 2],
      grey = luma(r, g, b);
    pixels[i] = blend(grey, r, f);
    pixels[i + 1] = blend(grey, g, f);
    pixels[i + 2] = blend(grey, b, f);
  }
};

/** Which of the four shades max, q, p, t (Smith 1978) a channel has in each sixth of the circle. */
const RED = [0, 1, 2, 2, 3, 0],
  GREEN = [3, 0, 0, 1, 2, 2],
  BLUE = [2, 2, 3, 0, 0, 1];

/** Turns the hue by a fraction of the circle, with hue and saturation held in bytes as Pillow's HSV does. */
export const adjustHue: ColourChange = (pixels, turns) => {
  const shift = Math.trunc(turns * 255);
  const shades = new Uint8Array(4);
  for (let i = 0; i < pixels.length; i += 3) {
    const r = pixels[i],
      g = pixels[i + 1],
      b = pixels[i + 2];
    const max = Math.max(r, g, b),
      min = Math.min(r, g, b),
      chroma = max - min;
    if (chroma === 0) continue;
    const sector = r === max ? (g - b) / chroma : g === max ? 2 + (b - r) / chroma : 4 + (r - g) / chroma;
    const hue = (Math.trunc(((sector / 6 + 1) % 1) * 255) + shift) & 255;
    const saturation = Math.trunc((chroma / max) * 255) / 255;
    const h = (hue * 6) / 255,
      whole = Math.floor(h),
      f = h - whole;
    const p = Math.round(max * (1 - saturation)),
      q = Math.round(max * (1 - saturation * f)),
      t = Math.round(max * (1 - saturation * (1 - f)));
    shades[0] = max;
    shades[1] = q;
    shades[2] = p;
    shades[3] = t;
    const sixth = whole % 6;
    pixels[i] = shades[RED[sixth]];
    pixels[i + 1] = shades[GREEN[sixth]];
    pixels[i + 2] = shades[BLUE[sixth]];
  }
};

/** torchvision's ColorJitter: the four changes in random order, each with a random factor. All factors are drawn, used or not. */
export function colourJitter(pixels: Uint8Array, strength: Augmentation['jitter'], rng: Random): void {
  const around = (width: number) => width * (2 * rng.uniform() - 1);
  const brightness = 1 + around(strength.brightness);
  const contrast = 1 + around(strength.contrast);
  const saturation = 1 + around(strength.saturation);
  const hue = around(strength.hue);
  const changes = [
    () => strength.brightness > 0 && adjustBrightness(pixels, brightness),
    () => strength.contrast > 0 && adjustContrast(pixels, contrast),
    () => strength.saturation > 0 && adjustSaturation(pixels, saturation),
    () => strength.hue > 0 && adjustHue(pixels, hue),
  ];
  for (const i of rng.permutation(changes.length)) changes[i]();
}
