import type { TopLevelSpec } from 'vega-lite';

/**
 * Charts are data: rows go in, a Vega-Lite specification of one look comes out. Each has a single view with a width, so that a page can
 * fit it to the room there is.
 */

/** Version 5 of the schema, because JupyterLab draws that one; Vega-Lite 6 takes both. */
export const SCHEMA = 'https://vega.github.io/schema/vega-lite/v5.json';

/** Okabe and Ito's colours, in an order in which neighbours differ: told apart by colour-blind readers too, on white and on black, as none of Vega's own schemes is. */
export const PALETTE = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#e69f00',
  '#cc79a7',
  '#56b4e9',
  '#999999',
  '#8c6d31',
  '#b15928',
  '#6a3d9a',
] as const;

/** Our own numbers are filled marks of the first colour, what is told apart from them has the second. */
export const [OWN, OTHER] = PALETTE;

/** What is no data, on the charts' own white; a page that lets its own background through makes this the colour of its text (page.ts). */
export const INK = '#222';

/**
 * Of an axis or a legend: where names are longer than so many characters, these lose their middle, since what tells names apart stands at their
 * ends as often as at their beginnings. A tooltip has all of them.
 */
export function shortLabels(names: readonly string[], characters: number): { labelExpr?: string } {
  if (names.every(({ length }) => length <= characters)) return {};
  const half = Math.floor((characters - 1) / 2);
  return {
    labelExpr: `length(datum.label) > ${characters} ? slice(datum.label, 0, ${half}) + '…' + slice(datum.label, -${half}) : datum.label`,
  };
}

/** Neither ours nor noteworthy: visible on white and on black. */
export const QUIET = PALETTE[6];

export const WIDTH = 400;

/** One of the layers of a chart. */
export type Layer = Extract<TopLevelSpec, { layer: unknown }>['layer'][number];

export const CONFIG: TopLevelSpec['config'] = {
  background: 'white',
  font: 'system-ui, sans-serif',
  view: { stroke: null },
  axis: {
    domainColor: INK,
    tickColor: INK,
    gridColor: INK,
    labelColor: INK,
    titleColor: INK,
    domainOpacity: 0.5,
    tickOpacity: 0.5,
    gridOpacity: 0.12,
    labelFontSize: 11,
    titleFontSize: 12,
    titleFontWeight: 'normal',
    labelFlush: false,
  },
  legend: {
    labelColor: INK,
    titleColor: INK,
    labelFontSize: 11,
    titleFontSize: 12,
    titleFontWeight: 'normal',
    labelLimit: WIDTH - 30,
    symbolOpacity: 1,
  },
  title: {
    color: INK,
    subtitleColor: INK,
    fontSize: 13,
    subtitleFontSize: 11,
    subtitleFontWeight: 'normal',
    anchor: 'start',
    offset: 10,
  },
  text: { fill: INK, fontSize: 11 },
  mark: { color: PALETTE[0], aria: false }, // a label for every mark would double the image
  range: { category: [...PALETTE] },
};

/** Characters of a line that is no wider than a chart, as Vega reckons without a browser: 0.8 of the font's size for each. */
const TITLE_LINE = 44;
const SUBTITLE_LINE = 52;

/** A title and a line on what is seen, broken to the width of a chart. */
export interface Heading {
  text: string[];
  subtitle?: string[];
}

/** A specification of the lab's look. */
export type Chart = TopLevelSpec & { title: Heading };

/** What all charts have in common. */
export function frame(title: string, seen?: string): Pick<Chart, '$schema' | 'config' | 'title'> {
  return {
    $schema: SCHEMA,
    title: { text: lines(title, TITLE_LINE), ...(seen !== undefined && { subtitle: lines(seen, SUBTITLE_LINE) }) },
    config: CONFIG,
  };
}

function lines(text: string, length: number): string[] {
  const all: string[] = [];
  for (const word of text.split(' ')) {
    const last = all.pop();
    if (last === undefined) all.push(word);
    else all.push(...(last.length + 1 + word.length <= length ? [`${last} ${word}`] : [last, word]));
  }
  return all;
}

/** The same chart with hollow points and bars: of what no commit can make again. */
export function hollow(chart: Chart): Chart {
  return JSON.parse(JSON.stringify(chart), (key, value: unknown) => {
    if (key !== 'mark' || typeof value !== 'object' || value === null) return value;
    const mark = value as { type?: string; point?: object };
    if (mark.type === 'point' || mark.type === 'bar') return { ...mark, filled: false };
    return mark.point ? { ...mark, point: { ...mark.point, filled: false, fill: 'white' } } : mark;
  }) as Chart;
}

/** The colour of each variant of an experiment, the same in all of its charts. */
export type VariantColors = Readonly<Record<string, string>>;

/** Colours by the order of the variants. */
export function variantColors(variants: readonly string[]): VariantColors {
  return Object.fromEntries(variants.map((variant, i) => [variant, PALETTE[i % PALETTE.length]]));
}

/** Colour by a field that holds names of variants. */
export function colorBy(field: string, colors: VariantColors) {
  return {
    field,
    type: 'nominal',
    title: null,
    scale: { domain: Object.keys(colors), range: Object.values(colors) },
  } as const;
}

/** A number as charts carry it: what nobody can see would only make files differ. */
export function rounded(value: number, digits = 4): number {
  return Number(value.toFixed(digits));
}

/** Points of a fraction: 0.0123 → 1.23. */
export const points = (share: number): number => rounded(100 * share, 3);

export const million = (value: number): number => rounded(value / 1e6, 3);

/** Multiply-accumulates, which papers call FLOPs. */
export const MACS = 'MACs (millions; paper: FLOPs)';
