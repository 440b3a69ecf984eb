import { exp, log } from '../../util/elementary';
import type { Random } from '../../util/random';
import type { Picture } from '../dataset';
import type { Augmentation } from './augmentation';
import { colourJitter } from './jitter';
import { type Box, resizeBox } from './resize';

/** [height, width] in pixels. */
export type Size = readonly [height: number, width: number];

/** Gives each augmentation of an image a stream of its own, so that switching one on leaves the others as they were. */
export type Streams = (augmentation: string) => Random;

const between = (rng: Random, low: number, high: number): number => low + (high - low) * rng.uniform();
const centred = (picture: Picture, width: number, height: number): Box => ({
  x: Math.floor((picture.width - width) / 2),
  y: Math.floor((picture.height - height) / 2),
  width,
  height,
});

const whole = ({ width, height }: Picture): Box => ({ x: 0, y: 0, width, height });

/** torchvision's RandomResizedCrop: ten tries for a box of random area and ratio that fits, then the largest centred one of an allowed ratio. */
export function randomCropBox(
  picture: Picture,
  area: readonly [number, number],
  ratio: readonly [number, number],
  rng: Random,
): Box {
  const { width, height } = picture;
  for (let attempt = 0; attempt < 10; attempt++) {
    const target = width * height * between(rng, ...area);
    const aspect = exp(between(rng, log(ratio[0]), log(ratio[1])));
    const w = Math.round(Math.sqrt(target * aspect)),
      h = Math.round(Math.sqrt(target / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height)
      return { x: rng.int(width - w + 1), y: rng.int(height - h + 1), width: w, height: h };
  }
  if (width / height < ratio[0]) return centred(picture, width, Math.round(width / ratio[0]));
  if (width / height > ratio[1]) return centred(picture, Math.round(height * ratio[1]), height);
  return centred(picture, width, height);
}

/** The largest centred box of the network's aspect, scaled by `share`: torchvision's Resize and CenterCrop in one. */
export function centerCropBox(picture: Picture, share: number, [height, width]: Size): Box {
  const scale = share * Math.min(picture.width / width, picture.height / height);
  return centred(picture, Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
}

function cropBox(picture: Picture, augment: Augmentation, size: Size, streams: Streams): Box {
  if (augment.randomCrop) return randomCropBox(picture, augment.randomCrop, augment.cropRatio, streams('crop'));
  if (augment.centerCrop !== null) return centerCropBox(picture, augment.centerCrop, size);
  return whole(picture);
}

/** Bytes → (byte / 255 − mean) / std, mirrored where `flip`. */
function normalise(
  pixels: Uint8Array,
  out: Float32Array,
  width: number,
  flip: boolean,
  { mean, std }: Pick<Augmentation, 'mean' | 'std'>,
): void {
  const table = (channel: number): Float32Array => {
    const values = new Float32Array(256);
    for (let byte = 0; byte < 256; byte++) values[byte] = (byte / 255 - mean[channel]) / std[channel];
    return values;
  };
  const red = table(0),
    green = table(1),
    blue = table(2);
  const step = flip ? -3 : 3;
  for (let row = 0; row < out.length; row += width * 3) {
    for (let x = 0, to = row, from = flip ? row + (width - 1) * 3 : row; x < width; x++, to += 3, from += step) {
      out[to] = red[pixels[from]];
      out[to + 1] = green[pixels[from + 1]];
      out[to + 2] = blue[pixels[from + 2]];
    }
  }
}

/** Random erasing (Zhong et al. 2020) with torchvision's bounds: 2 to 33 % of the area, ratio 0.3 to 3.3. Zero is the mean colour here. */
function erase(out: Float32Array, [height, width]: Size, rng: Random): void {
  for (let attempt = 0; attempt < 10; attempt++) {
    const target = height * width * between(rng, 0.02, 0.33);
    const aspect = exp(between(rng, log(0.3), log(3.3)));
    const h = Math.round(Math.sqrt(target * aspect)),
      w = Math.round(Math.sqrt(target / aspect));
    if (h < 1 || w < 1 || h >= height || w >= width) continue;
    const top = rng.int(height - h + 1),
      left = rng.int(width - w + 1);
    for (let y = top; y < top + h; y++) out.fill(0, (y * width + left) * 3, (y * width + left + w) * 3);
    return;
  }
}

/** What is not random in how an image becomes what a network is given. */
export type Preparation = Pick<Augmentation, 'mean' | 'std' | 'interpolation' | 'centerCrop'>;

/** What a network is given of one image, [h, w, 3]: resized and normalised as for evaluation. */
export function evaluationInput(
  picture: Picture,
  [height, width]: Size,
  { mean, std, interpolation, centerCrop }: Preparation,
): Float32Array {
  const kept = centerCrop === null ? whole(picture) : centerCropBox(picture, centerCrop, [height, width]);
  const values = new Float32Array(height * width * 3);
  normalise(resizeBox(picture, kept, [height, width], interpolation), values, width, false, { mean, std });
  return values;
}

/** What a network was given, as an image again. */
export function denormalised(
  values: Float32Array,
  [height, width]: Size,
  { mean, std }: Pick<Augmentation, 'mean' | 'std'>,
): Picture {
  const pixels = Uint8ClampedArray.from(values, (value, i) => 255 * (value * std[i % 3]! + mean[i % 3]!));
  return { width, height, pixels: new Uint8Array(pixels) };
}

/** Writes one image, augmented, resized and normalised, to `out` [height, width, 3]. */
export function augmentPicture(
  picture: Picture,
  out: Float32Array,
  size: Size,
  augment: Augmentation,
  streams: Streams,
): void {
  const pixels = resizeBox(picture, cropBox(picture, augment, size, streams), size, augment.interpolation);
  const { jitter } = augment;
  if (jitter.brightness || jitter.contrast || jitter.saturation || jitter.hue)
    colourJitter(pixels, jitter, streams('jitter'));
  const flip = augment.flip > 0 && streams('flip').uniform() < augment.flip;
  normalise(pixels, out, size[1], flip, augment);
  if (augment.erase > 0) {
    const rng = streams('erase');
    if (rng.uniform() < augment.erase) erase(out, size, rng);
  }
}
