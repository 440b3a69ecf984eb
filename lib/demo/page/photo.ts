import type { Picture } from '../../data/dataset';

/** Shows an image on a canvas of its size. */
export function paint(canvas: HTMLCanvasElement, { width, height, pixels }: Picture): void {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    image.data.set(pixels.subarray(from, from + 3), to);
    image.data[to + 3] = 255;
  }
  canvas.getContext('2d')!.putImageData(image, 0, 0);
}
