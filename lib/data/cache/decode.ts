import { totalmem } from 'node:os';
import sharp, { type Metadata } from 'sharp';
import { type Budget, budget } from '../../util/budget';
import { Failure } from '../../util/errors';
import type { Picture } from '../dataset';
import type { Decoding } from '../decodings';
import { fileKind, isRead, notRead, READ_KINDS } from '../kinds';
import { resizeBox } from '../transforms/resize';

/** Names the decoder: others may give other pixels, so that what is cached depends on it. */
export function decoder(decoding: Decoding = 'sharp'): string {
  return `sharp ${sharp.versions.sharp}, libvips ${sharp.versions.vips}${decoding === 'pillow' ? ', as Pillow' : ''}`;
}

/** Pixels of the largest image that is decoded: libvips' own limit, the same on every machine, so that the images of a dataset are. */
const MAX_PIXELS = 0x3fff ** 2;

/** Memory of this process, in bytes, within the limits of its container. */
function memory(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

const GB = 1e9;

/** What images that are decoded at the same time may take together, in bytes: a few large ones would else fill the memory of a small machine. */
const inFlight: Budget = budget(Math.min(GB, memory() / 4));

/** Bytes that decoding takes at its peak, measured within a quarter: decoders that work row by row need little, the others the whole image. */
export function decodingBytes(
  { width, height, channels = 3, depth, format, isProgressive = false }: Metadata,
  side: number,
  decoding: Decoding = 'sharp',
): number {
  const pixels = width * height;
  const whole = pixels * channels * (depth === 'ushort' ? 2 : 1);
  const shrink = decoding === 'pillow' ? 1 : Math.min(1, side / Math.min(width, height)); // Pillow's way is to shrink afterwards
  const kept = 2 * 3 * pixels * shrink ** 2; // as rows, and as the buffer that is handed over
  if (format === 'jpeg')
    return kept + (isProgressive ? 2 * pixels * channels : pixels * channels * Math.max(1 / 64, shrink ** 2)); // coefficients are 16-bit
  if (format === 'png' && !isProgressive) return kept;
  return 1.2 * whole + kept;
}

export interface Decoded extends Picture {
  /** What the decoder found odd in a file that it could decode all the same. */
  warning?: string;
}

/** What libvips says, by its first line; sharp has a sentence of its own where that said nothing. */
const reasonOf = (error: unknown): string =>
  (error as Error).message
    .trim()
    .split('\n')[0]
    .replace(/^Warning treated as error.*/, 'its decoder finds fault with it');

/**
 * An image file of `READ_KINDS` → 8-bit sRGB, upright by its EXIF orientation, shrunk (never enlarged) so that its shorter side is at
 * most `side` pixels. Greyscale and CMYK are converted; what is transparent becomes white; of several frames or pages the first is
 * taken. Throws on files of another kind, whatever their names say, on those that are cut off or damaged, and on those above 268
 * million pixels. One that viewers open in spite of an odd byte is decoded, with a warning.
 */
export async function decode(bytes: Uint8Array, side: number, decoding: Decoding = 'sharp'): Promise<Decoded> {
  if (bytes.length === 0) throw new Error('the file is empty');
  const kind = fileKind(bytes);
  if (!isRead(kind)) throw new Error(kind === undefined ? `no image: none of ${READ_KINDS.join(', ')}` : notRead(kind));
  const header = await sharp(bytes, { failOn: 'none', limitInputPixels: false }).metadata();
  const pixels = header.width * header.height;
  if (pixels > MAX_PIXELS)
    throw new Error(`${(pixels / 1e6).toFixed(0)} million pixels: at most ${Math.floor(MAX_PIXELS / 1e6)} are decoded`);
  const needed = decodingBytes(header, side, decoding);
  if (needed > memory())
    throw new Failure(
      `An image of ${header.width}×${header.height} pixels takes ${(needed / GB).toFixed(1)} GB to be decoded, and this machine has ${(memory() / GB).toFixed(1)} GB: leave it out, or decode on a larger machine.`,
    );
  const release = await inFlight.take(needed);
  const pixelsOf = (failOn: FailOn): Promise<Picture> =>
    decoding === 'pillow' ? decodeAsPillow(bytes, header, side, failOn) : decodePixels(bytes, side, failOn);
  try {
    return await pixelsOf('warning');
  } catch (error) {
    // A decoder that warns may continue; a file that is cut off or broken fails again.
    return { ...(await pixelsOf('error')), warning: reasonOf(error) };
  } finally {
    release();
  }
}

type FailOn = 'warning' | 'error';

async function decodePixels(bytes: Uint8Array, side: number, failOn: FailOn): Promise<Picture> {
  const { data, info } = await sharp(bytes, { failOn, autoOrient: true, limitInputPixels: MAX_PIXELS })
    .resize({ width: side, height: side, fit: 'outside', withoutEnlargement: true })
    .flatten({ background: 'white' })
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== 3) throw new Error(`decodes to ${info.channels} channels`);
  return { width: info.width, height: info.height, pixels: data };
}

/**
 * As torchvision's `Resize(side)` of `ImageOps.exif_transpose(Image.open(file)).convert('RGB')`, but that small images stay as they are:
 * the file is decoded in full size before it is shrunk, colour profiles and transparency are left out, and CMYK is inverted. Equal to
 * Pillow 13.0.0 to the byte; its 16-bit greyscale, which it clips at 255, is none of this.
 */
async function decodeAsPillow(bytes: Uint8Array, { space }: Metadata, side: number, failOn: FailOn): Promise<Picture> {
  const file = sharp(bytes, { failOn, autoOrient: true, limitInputPixels: MAX_PIXELS, ignoreIcc: true });
  const decoded =
    space === 'cmyk'
      ? file.pipelineColourspace('cmyk').toColourspace('cmyk')
      : file.removeAlpha().toColourspace('srgb');
  const { data, info } = await decoded.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  if (channels !== (space === 'cmyk' ? 4 : 3)) throw new Error(`decodes to ${channels} channels`);
  const image = { width, height, pixels: channels === 4 ? invertCmyk(data) : data };
  if (Math.min(width, height) <= side) return image;
  const size =
    width <= height
      ? ([Math.trunc((side * height) / width), side] as const)
      : ([side, Math.trunc((side * width) / height)] as const);
  const pixels = resizeBox(image, { x: 0, y: 0, width, height }, size, 'bilinear');
  return { width: size[1], height: size[0], pixels };
}

/** CMYK → RGB by (1 − ink)(1 − black), with the rounding of Pillow's `cmyk2rgb` (Convert.c). */
function invertCmyk(inks: Uint8Array): Uint8Array {
  const pixels = new Uint8Array((inks.length / 4) * 3);
  for (let from = 0, to = 0; from < inks.length; from += 4, to += 3) {
    const paper = 255 - inks[from + 3];
    for (let channel = 0; channel < 3; channel++) {
      const scaled = inks[from + channel] * paper + 128;
      pixels[to + channel] = paper - (((scaled >> 8) + scaled) >> 8);
    }
  }
  return pixels;
}
