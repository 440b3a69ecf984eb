import { extent, heatMap, legible, mosaic, overlay } from '../../charts/pixels';
import type { Picture } from '../../data/dataset';
import { type AttentionMaps, attentionOf } from '../../measure/attention';
import type { Tensor } from '../../tensor/tf';
import { escapeHtml } from '../../util/html';
import { ruledTable } from '../../util/tables';
import { counted } from '../../util/text';
import { type Bundle, chart, send } from './bundle';
import { type Image, toPicture, toPng } from './pictures';

export { heatMap, overlay } from '../../charts/pixels';
/**
 * What notebooks show. Each function sends one output with a text beside it and need not be awaited: a cell ends when
 * all it shows has been shown. Outside a notebook the text is printed.
 */
export { type Bar, type CurveOptions, type Live, liveChart, liveCurve, progressBar } from './live';
export { clearOutput, interruption } from './output';
export { type Image, toPicture } from './pictures';

const PICTURE_SIDE = 224;

/** A Vega-Lite chart: interactive in JupyterLab, an image (SVG) on GitHub and in exports. */
export function show(spec: object): Promise<void> {
  return send(chart(spec));
}

export type Cell = string | number | boolean | null | undefined;

export interface TableOptions {
  /** Which, in this order (default: all of the first row). */
  columns?: readonly string[];
  /** Of numbers that are not whole (default 4). */
  significantDigits?: number;
}

/** Rows as a table; numbers to the right. */
export function showTable(
  rows: readonly object[],
  { columns = Object.keys(rows[0] ?? {}), significantDigits = 4 }: TableOptions = {},
): Promise<void> {
  const text = (value: Cell): string =>
    typeof value === 'number' ? formatNumber(value, significantDigits) : String(value ?? '');
  const values = rows.map(row => columns.map(column => (row as Record<string, Cell>)[column]));
  const body = values.map(row => row.map(text));
  const right = columns.map(
    (_, c) =>
      values.length > 0 && values.every(row => row[c] === null || row[c] === undefined || typeof row[c] === 'number'),
  );
  const tag = (name: string, row: readonly string[]): string =>
    `<tr>${row.map((value, c) => `<${name} style="text-align: ${right[c] ? 'right' : 'left'}">${escapeHtml(value)}</${name}>`).join('')}</tr>`;
  return send({
    'text/plain': ruledTable(columns, body, right),
    'text/html': `<table>\n<thead>${tag('th', columns)}</thead>\n<tbody>\n${body.map(row => tag('td', row)).join('\n')}\n</tbody>\n</table>`,
  });
}

export interface ImageOptions {
  caption?: string;
  /** Small images are enlarged, by whole pixels, up to this side (default 224). */
  side?: number;
}

/** An image, with what it shows below it. */
export function showImage(image: Image, { caption, side = PICTURE_SIDE }: ImageOptions = {}): Promise<void> {
  const picture = toPicture(image);
  return send(
    figures(
      [{ picture: legible(picture, side), caption }],
      `${caption ?? 'picture'}: ${picture.width} × ${picture.height}`,
    ),
  );
}

export interface GridOptions {
  captions?: readonly string[];
  /** Images in a row (default: 6). */
  columns?: number;
  /** Of each image (default 96). */
  side?: number;
}

/** Images in rows, each with its caption. */
export function showImages(
  images: readonly Image[],
  { captions, columns = 6, side = 96 }: GridOptions = {},
): Promise<void> {
  const all = images.map((image, i) => ({ picture: legible(toPicture(image), side), caption: captions?.[i] }));
  return send(figures(all, `${counted(images.length, 'image')}${captions ? `: ${captions.join(', ')}` : ''}`, columns));
}

/** Shape, type and statistics of a tensor, and its values as colours: of [b, h, w, c] the first sixteen channels of the first. */
export function showTensor(tensor: Tensor, { caption }: { caption?: string } = {}): Promise<void> {
  const values = tensor.dataSync();
  const summary = `${caption ? `${caption}: ` : ''}${describeTensor(tensor, values)}`;
  if (tensor.size === 0) return send({ 'text/plain': summary });
  return send(figures([{ picture: tensorPicture(tensor, values), caption: summary }], summary));
}

export interface AttentionOptions extends GridOptions {
  /** The delegate that asks, by its place in the grid, from the top left. */
  query: readonly [row: number, column: number];
  /** Of the batch, the image that is shown (default 0). */
  of?: number;
}

/**
 * What one delegate takes from the others, over their image, for each head: the maps of `attentionMaps` (lib/measure/attention) with their
 * grid. Throws TypeError for weights without a grid, or of another one, and RangeError for a query outside of it.
 */
export function showAttention(
  image: Image,
  maps: AttentionMaps,
  { query, of = 0, captions, columns = 6, side = PICTURE_SIDE }: AttentionOptions,
): Promise<void> {
  const looks = attentionOf(maps, query, of);
  const [rows, cols] = maps.grid;
  const picture = legible(toPicture(image), side);
  const all = looks.map((weights, head) => ({
    picture: overlay(picture, weights, rows, cols),
    caption: captions?.[head] ?? (looks.length > 1 ? `head ${head + 1}` : undefined),
  }));
  return send(
    figures(
      all,
      `attention of the delegate at ${query.join(', ')} over ${rows} × ${cols} delegates, ${counted(looks.length, 'head')}`,
      columns,
    ),
  );
}

/** One image without a caption as it is; all others in a page's figures, since a bare image would hide the text. */
async function figures(
  all: readonly { picture: Picture; caption?: string }[],
  text: string,
  columns = 1,
): Promise<Bundle> {
  if (all.every(({ caption }) => caption === undefined))
    return {
      'text/plain': text,
      'image/png': await toPng(
        mosaic(
          all.map(({ picture }) => picture),
          columns,
        ),
      ),
    };
  const cells = await Promise.all(
    all.map(async ({ picture, caption = '' }) => {
      const image = `<img src="data:image/png;base64,${await toPng(picture)}" width="${picture.width}" height="${picture.height}" alt="${escapeHtml(caption)}">`;
      return `<td style="text-align: center; vertical-align: top">${image}<br>${escapeHtml(caption)}</td>`;
    }),
  );
  const rows = Array.from(
    { length: Math.ceil(cells.length / columns) },
    (_, row) => `<tr>${cells.slice(row * columns, (row + 1) * columns).join('\n')}</tr>`,
  );
  return { 'text/plain': text, 'text/html': `<table>\n${rows.join('\n')}\n</table>` };
}

function describeTensor({ dtype, shape, size }: Tensor, values: ArrayLike<number>): string {
  const finite = Array.from(values).filter(Number.isFinite);
  const mean = finite.reduce((sum, value) => sum + value, 0) / finite.length;
  const deviation = Math.sqrt(finite.reduce((sum, value) => sum + (value - mean) ** 2, 0) / finite.length);
  const [least, greatest] = extent(values);
  const broken = size - finite.length;
  const statistics =
    finite.length === 0
      ? []
      : Object.entries({ min: least, mean, max: greatest, std: deviation }).map(
          ([name, value]) => `${name} ${formatNumber(value, 4)}`,
        );
  return [`${dtype} [${shape.join(', ')}]`, ...statistics, ...(broken > 0 ? [`${broken} not finite`] : [])].join(', ');
}

function tensorPicture({ shape, rank }: Tensor, values: ArrayLike<number>): Picture {
  const range = extent(values);
  if (rank < 3) {
    const [width = 1, height = 1] = [...shape].reverse();
    return legible(heatMap(values, width, height, range), PICTURE_SIDE);
  }
  const [height, width, channels] = shape.slice(-3);
  const maps = Array.from({ length: Math.min(16, channels) }, (_, channel) =>
    legible(
      heatMap(
        Array.from({ length: height * width }, (_, i) => values[i * channels + channel]),
        width,
        height,
        range,
      ),
      96,
    ),
  );
  return mosaic(maps, 8);
}

function formatNumber(value: number, digits: number): string {
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  return Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : String(value);
}
