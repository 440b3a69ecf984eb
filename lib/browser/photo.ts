import type { Picture } from '../data/dataset';
import { resizeBox } from '../data/transforms/resize';

/** Pixels of the largest canvas that every browser has (Safari's on phones). */
const MAX_PIXELS = 16 * 1024 * 1024;

/** An image file as 8-bit RGB, upright, on white, its shorter side at most `side` pixels. Throws where the browser can't decode it. */
export async function readPhoto(file: Blob, side: number): Promise<Picture> {
  const image = await createImageBitmap(file, { imageOrientation: 'from-image' });
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (image.width * image.height)));
  const [width, height] = [image.width, image.height].map(pixels => Math.max(1, Math.floor(scale * pixels))) as [
    number,
    number,
  ];
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true })!;
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  image.close();
  return shrunk({ width, height, pixels: withoutAlpha(context.getImageData(0, 0, width, height).data) }, side);
}

function withoutAlpha(rgba: Uint8ClampedArray): Uint8Array {
  const pixels = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    pixels[to] = rgba[from]!;
    pixels[to + 1] = rgba[from + 1]!;
    pixels[to + 2] = rgba[from + 2]!;
  }
  return pixels;
}

function shrunk(picture: Picture, side: number): Picture {
  const { width, height } = picture;
  const scale = side / Math.min(width, height);
  if (scale >= 1) return picture;
  const size = [Math.round(scale * height), Math.round(scale * width)] as const;
  return { width: size[1], height: size[0], pixels: resizeBox(picture, { x: 0, y: 0, width, height }, size) };
}
