import sharp from 'sharp';
import { extent } from '../../charts/pixels';
import type { Picture } from '../../data/dataset';
import type { Tensor } from '../../tensor/tf';

/** Whatever can be looked at: a stored image, or a tensor [h, w], [h, w, 1] or [h, w, 3], floats in [0, 1] or int32 in [0, 255]. */
export type Image = Picture | Tensor;

/** Throws TypeError for a tensor of another shape, RangeError for one whose values are no colours: what a network takes has the shape of an image. */
export function toPicture(image: Image): Picture {
  if ('pixels' in image) return image;
  const [height, width, channels = 1] = image.shape;
  if (image.rank < 2 || image.rank > 3 || (channels !== 1 && channels !== 3))
    throw new TypeError(`An image is [h, w], [h, w, 1] or [h, w, 3], not [${image.shape.join(', ')}].`);
  const values = image.dataSync();
  const scale = image.dtype === 'int32' ? 1 : 255;
  const [least, greatest] = extent(values);
  if (scale * least < -1 || scale * greatest > 256)
    throw new RangeError(
      `An image has floats in [0, 1] or int32 in [0, 255], and these are from ${least.toPrecision(3)} to ${greatest.toPrecision(3)}: showTensor shows any values.`,
    );
  return {
    width,
    height,
    pixels: new Uint8Array(
      Uint8ClampedArray.from(
        { length: width * height * 3 },
        (_, i) => scale * values[channels === 3 ? i : Math.floor(i / 3)],
      ),
    ),
  };
}

export async function toPng({ width, height, pixels }: Picture): Promise<string> {
  const png = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 9, palette: false })
    .toBuffer();
  return png.toString('base64');
}
