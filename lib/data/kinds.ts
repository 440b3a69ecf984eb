import { extname } from 'node:path';

/** What begins a file is enough to tell its kind: the longest signature, SVG's, lies behind a prologue of XML. */
export const SNIFFED_BYTES = 4096;

/** The kinds of images that are read, as README lists them. Others that libvips would open, such as SVG, are none of a photograph's. */
export const READ_KINDS = ['JPEG', 'PNG', 'WebP', 'GIF', 'TIFF', 'AVIF'] as const;
export type ReadKind = (typeof READ_KINDS)[number];

/** Extensions of files that are taken for images before their content is seen. */
export const IMAGE_EXTENSIONS = [
  '.jpg',
  '.jpeg',
  '.jpe',
  '.jfif',
  '.png',
  '.webp',
  '.gif',
  '.tif',
  '.tiff',
  '.avif',
] as const;

/** Images of kinds that are not read, by extension: several begin like another kind (a raw file of a camera like a TIFF, with a thumbnail in it). */
const OTHER_EXTENSIONS: Record<string, string> = {
  '.heic': 'HEIC',
  '.heif': 'HEIF',
  '.hif': 'HEIF',
  '.bmp': 'BMP',
  '.svg': 'SVG',
  '.svgz': 'SVG',
  '.jxl': 'JPEG XL',
  '.jp2': 'JPEG 2000',
  '.j2k': 'JPEG 2000',
  '.psd': 'Photoshop',
  '.ppm': 'PNM',
  '.pgm': 'PNM',
  '.pbm': 'PNM',
  '.exr': 'OpenEXR',
  '.hdr': 'Radiance',
  '.tga': 'Targa',
  '.dng': 'camera raw',
  '.nef': 'camera raw',
  '.arw': 'camera raw',
  '.cr2': 'camera raw',
  '.cr3': 'camera raw',
  '.orf': 'camera raw',
  '.rw2': 'camera raw',
  '.raf': 'camera raw',
  '.pef': 'camera raw',
};

export const hasImageExtension = (path: string): boolean =>
  (IMAGE_EXTENSIONS as readonly string[]).includes(extname(path).toLowerCase());

/** The kind that an extension stands for, where it is an image's that is not read. */
export const otherImageExtension = (path: string): string | undefined => OTHER_EXTENSIONS[extname(path).toLowerCase()];

/** HEIC's brands and AVIF's in the `ftyp` box (ISO/IEC 23008-12, AV1 Image File Format): the major one first, then those that the file is compatible with. */
function heifKind(brands: readonly string[]): string | undefined {
  if (brands.some(brand => brand === 'avif' || brand === 'avis')) return 'AVIF';
  if (brands.some(brand => /^(hei[cxms]|hev[cxms])$/.test(brand))) return 'HEIC';
  if (brands.includes('mif1') || brands.includes('msf1')) return 'HEIF';
  if (brands[0] === 'crx ') return 'camera raw';
  return undefined;
}

/** What kind of file begins with these bytes; undefined where it is none that is ever taken for an image. */
export function fileKind(head: Uint8Array): string | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, SNIFFED_BYTES));
  const text = bytes.toString('latin1');
  const starts = (...signatures: string[]): boolean => signatures.some(signature => text.startsWith(signature));
  if (starts('\xff\xd8')) return 'JPEG'; // after which some writers put odd bytes
  if (starts('\x89PNG\r\n\x1a\n')) return 'PNG';
  if (starts('GIF87a', 'GIF89a')) return 'GIF';
  if (starts('RIFF') && text.slice(8, 12) === 'WEBP') return 'WebP';
  if (starts('II*\0', 'II+\0') && text.slice(8, 10) === 'CR') return 'camera raw';
  if (starts('II*\0', 'MM\0*', 'II+\0', 'MM\0+')) return 'TIFF';
  if (text.slice(4, 8) === 'ftyp' && bytes.length >= 16) {
    const end = Math.min(bytes.readUInt32BE(0), text.length);
    const compatible = Array.from({ length: Math.max(0, Math.floor((end - 16) / 4)) }, (_, i) =>
      text.slice(16 + 4 * i, 20 + 4 * i),
    );
    return heifKind([text.slice(8, 12), ...compatible]);
  }
  if (starts('\xff\x0a', '\0\0\0\x0cJXL ')) return 'JPEG XL';
  if (starts('\0\0\0\x0cjP  ', '\xff\x4f\xff\x51')) return 'JPEG 2000';
  if (starts('BM') && bytes.length >= 14 && bytes.readUInt32LE(6) === 0) return 'BMP';
  if (starts('8BPS')) return 'Photoshop';
  if (starts('\x76\x2f\x31\x01')) return 'OpenEXR';
  if (starts('#?RADIANCE', '#?RGBE')) return 'Radiance';
  if (/^P[1-6]\s/.test(text)) return 'PNM';
  if (starts('%PDF-')) return 'PDF';
  const prose = text.replace(/^\xef\xbb\xbf/, '').trimStart();
  if (/^(<\?xml|<!--|<!doctype svg|<svg)/i.test(prose) && /<svg[\s>]/i.test(prose)) return 'SVG';
  if (/^(<!doctype html|<html)/i.test(prose)) return 'HTML page';
  return undefined;
}

export const isRead = (kind: string | undefined): kind is ReadKind =>
  (READ_KINDS as readonly (string | undefined)[]).includes(kind);

/** Why a file of that kind is left out, and what would help. */
export function notRead(kind: string): string {
  const image = kind !== 'PDF' && kind !== 'HTML page';
  return `its content is ${kind}, which is not read${image ? ': convert it to JPEG or PNG' : ''}`;
}
