import sharp from 'sharp';
import { heatMap, legible, requireLength } from '../../charts/pixels';
import { CONFIG, PALETTE } from '../../charts/style';
import type { Picture } from '../../data/dataset';

/** Figures of the notebooks as Vega-Lite specifications of one look: the title says what is claimed, the rest shows it. */

/** A specification under a title that states the claim, and a line on what is seen. */
export function figure(claim: string, spec: object, seen?: string): object {
  return {
    title: { text: claim, ...(seen ? { subtitle: seen } : {}), anchor: 'start', offset: 12 },
    config: CONFIG,
    ...spec,
  };
}

/** An image of a figure. */
export interface Panel {
  caption: string;
  picture: Picture;
  /** Marked by a dot, in units of the image's sides: (0, 0) is its top left corner, (1, 1) the bottom right. */
  places?: readonly { x: number; y: number }[];
}

export interface PanelOptions {
  /** In a row (default: all). */
  columns?: number;
  /** Of each panel on the page, in pixels, where a row of them is no wider than a notebook (default 168). */
  side?: number;
  /** What the colours of heat maps mean, from `low` to `high`. */
  legend?: { title: string; low: number | string; high: number | string };
}

/** Of a notebook's outputs beside JupyterLab's side bar on a small screen, in pixels. */
const WIDTH = 780;
const LEGEND_WIDTH = 90;
const GAP = 14;
const LETTER_WIDTH = 6.5; // of captions, on average

/** Images side by side as a figure. */
export async function panels(
  claim: string,
  all: readonly Panel[],
  { columns = all.length, side = 168, legend }: PanelOptions = {},
  seen?: string,
): Promise<object> {
  const fitting = Math.floor((WIDTH - (legend ? LEGEND_WIDTH : 0)) / columns) - GAP;
  const views = await Promise.all(all.map(panel => view(panel, Math.min(side, fitting), legend)));
  return figure(claim, { concat: views, columns, spacing: { column: GAP, row: 36 }, bounds: 'flush' }, seen);
}

/** Values row by row as a panel's image: see `heatMap`. */
export function heatPanel(
  caption: string,
  values: ArrayLike<number>,
  width: number,
  height: number,
  range?: readonly [number, number],
): Panel {
  return { caption, picture: heatMap(values, width, height, range && [...range]) };
}

/** An image lit where values [rows × columns], powers of ten from 0 down, are large, and dark where they are below −`decades`. */
export function spotlight(
  { width, height, pixels }: Picture,
  powers: ArrayLike<number>,
  rows: number,
  columns: number,
  decades: number,
): Picture {
  requireLength('A spotlight', powers, columns, rows);
  const dark = 0.12;
  const lit = pixels.map((value, i) => {
    const pixel = Math.floor(i / 3);
    const row = Math.floor((Math.floor(pixel / width) * rows) / height);
    const column = Math.floor(((pixel % width) * columns) / width);
    const light = Math.max(0, 1 + powers[row * columns + column] / decades);
    return value * (dark + (1 - dark) * light);
  });
  return { width, height, pixels: lit };
}

async function view(
  { caption, picture, places = [] }: Panel,
  side: number,
  legend: PanelOptions['legend'],
): Promise<object> {
  const url = await toDataUrl(legible(picture, side));
  const longer = Math.max(picture.width, picture.height);
  const [width, height] = [picture.width, picture.height].map(length => Math.round((side * length) / longer));
  const scale = { domain: [0, 1] };
  const x = { field: 'x', type: 'quantitative', scale, axis: null };
  const y = { field: 'y', type: 'quantitative', scale: { ...scale, reverse: true }, axis: null };
  const layer: object[] = [
    {
      data: { values: [{ url }] },
      mark: { type: 'image', width, height },
      encoding: { url: { field: 'url' }, x: { value: width! / 2 }, y: { value: height! / 2 } },
    },
  ];
  if (places.length > 0) {
    layer.push({
      data: { values: places },
      mark: { type: 'circle', color: PALETTE[1], stroke: 'white', strokeWidth: 1, opacity: 1, size: 90, clip: true },
      encoding: { x, y },
    });
  }
  if (legend) {
    const { title, low, high } = legend;
    const [lowest, highest] = [low, high].map(end => JSON.stringify(String(end)));
    layer.push({
      data: { values: [{ share: 0 }, { share: 1 }] },
      mark: { type: 'point', opacity: 0 },
      encoding: {
        color: {
          field: 'share',
          type: 'quantitative',
          scale: { scheme: 'viridis', domain: [0, 1] },
          legend: {
            title,
            values: [0, 1],
            labelExpr: `datum.value === 0 ? ${lowest} : ${highest}`,
            gradientLength: side - 30,
          },
        },
      },
    });
  }
  layer.push({
    data: { values: [{}] },
    mark: { type: 'rect', filled: false, stroke: '#ccc', strokeWidth: 1 },
    encoding: { x: { value: 0 }, x2: { value: width }, y: { value: 0 }, y2: { value: height } },
  });
  const text = LETTER_WIDTH * caption.length > width ? caption.split(': ') : caption;
  return { title: { text, fontSize: 12, fontWeight: 'normal', offset: 4 }, width, height, layer };
}

/** Of 256 colours, a quarter of the bytes, and no eye sees it at this size; as a JPEG where that is clearly smaller still, as it is for what looks like a photograph. */
async function toDataUrl({ width, height, pixels }: Picture): Promise<string> {
  const picture = sharp(pixels, { raw: { width, height, channels: 3 } });
  const [png, jpeg] = await Promise.all([
    picture.clone().png({ palette: true, colours: 256, dither: 0, effort: 10, compressionLevel: 9 }).toBuffer(),
    picture.clone().jpeg({ quality: 85, chromaSubsampling: '4:4:4', mozjpeg: true }).toBuffer(),
  ]);
  return jpeg.length < 0.8 * png.length
    ? `data:image/jpeg;base64,${jpeg.toString('base64')}`
    : `data:image/png;base64,${png.toString('base64')}`;
}
