import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/**
 * The one font of images, from a package: without it resvg takes the system's, which differ from machine to machine, and on a
 * machine without fonts leaves all text out.
 */
const FONT = 'Inter';
const FONTS = ['400Regular/Inter_400Regular.ttf', '700Bold/Inter_700Bold.ttf'];

/** Its files: regular and bold. */
export function fontFiles(): string[] {
  const folder = dirname(createRequire(__filename).resolve('@expo-google-fonts/inter/package.json'));
  return FONTS.map(file => join(folder, file));
}

/** Pixels per unit of the SVG, for screens that have more than one. */
export const PNG_SCALE = 2;

/** Draws an SVG as a PNG of `PNG_SCALE` times its size: equal drawings give equal bytes, on every machine. */
export async function toPng(svg: string): Promise<Buffer> {
  const { Resvg } = await import('@resvg/resvg-js'); // only where images are asked for
  const font = { loadSystemFonts: false, fontFiles: fontFiles(), defaultFontFamily: FONT, sansSerifFamily: FONT };
  return new Resvg(svg, { font, fitTo: { mode: 'zoom', value: PNG_SCALE } }).render().asPng();
}
