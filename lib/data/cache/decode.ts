import sharp from 'sharp';
import type { Picture } from '../dataset';

/** Names the decoder: others may give other pixels, so that what is cached depends on it. */
export function decoder(): string {
  return `sharp ${sharp.versions.sharp}, libvips ${sharp.versions.vips}`;
}

/**
 * JPEG, PNG or WebP → 8-bit sRGB, upright by its EXIF orientation, shrunk (never enlarged) so that its shorter side is at most
 * `side` pixels. Greyscale and CMYK are converted; what is transparent becomes white. Throws on a damaged image, also
 * where a decoder would continue with a warning and grey pixels: those would be trained on.
 */
export async function decode(bytes: Uint8Array, side: number): Promise<Picture> {
  const { data, info } = await sharp(bytes, { failOn: 'warning', autoOrient: true })
    .resize({ width: side, height: side, fit: 'outside', withoutEnlargement: true })
    .flatten({ background: 'white' })
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== 3) throw new Error(`decodes to ${info.channels} channels`);
  return { width: info.width, height: info.height, pixels: data };
}
