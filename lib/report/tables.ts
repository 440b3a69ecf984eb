import { percent } from '../runs/console';
import type { Run } from '../runs/store';
import { escape } from './page';

/** A run as a row of a table, in words that a person reads. */
export interface ResultRow {
  run: string;
  model: string;
  data: string;
  params: string;
  macs: string;
  top1: string;
  top5: string;
  imagesPerSecond: string;
}

export const RESULT_COLUMNS: Record<keyof ResultRow, string> = {
  run: 'run',
  model: 'model',
  data: 'data',
  params: 'params',
  macs: 'MACs',
  top1: 'top-1',
  top5: 'top-5',
  imagesPerSecond: 'train img/s',
};

/** What is not there yet is a dash. */
export function resultRow({ record }: Run): ResultRow {
  const { name, model, dataset, recipe, result } = record;
  const { size } = recipe;
  const pixels = typeof size === 'number' ? size : size.join('×');
  return {
    run: name,
    model: recipe.ablation === null ? model.name : `${model.name} (${recipe.ablation})`,
    data: `${dataset.name}, ${dataset.classes.length} classes, ${pixels} px`,
    params: thousands(model.params),
    macs: `${(model.macs / 1e6).toFixed(1)} M`,
    top1: result ? percent(result.top1) : '–',
    top5: result ? percent(result.top5) : '–',
    imagesPerSecond: result?.imagesPerSecond ? result.imagesPerSecond.toFixed(1) : '–',
  };
}

/** Rows of text under column names: what is printed, written as Markdown, or put into a page. */
export interface Table<K extends string = string> {
  columns: Record<K, string>;
  rows: readonly Record<K, string>[];
}

/** Columns of which all cells are numbers, or a dash for none; the first has the rows' names, whatever they look like. */
function numericColumns<K extends string>({ columns, rows }: Table<K>): boolean[] {
  return (Object.keys(columns) as K[]).map((key, i) => i > 0 && rows.every(row => /^[-+−]?[\d–]/.test(row[key])));
}

function cells<K extends string>({ columns, rows }: Table<K>): string[][] {
  const keys = Object.keys(columns) as K[];
  return [keys.map(key => columns[key]), ...rows.map(row => keys.map(key => row[key]))];
}

/** Rows under their column names, aligned; words to the left, the rest to the right. `paint` changes how a cell looks, not its width. */
export function textTable<K extends string>(
  columns: Record<K, string>,
  rows: readonly Record<K, string>[],
  paint = (text: string, _row: number, _column: number): string => text,
): string {
  const [head, ...body] = cells({ columns, rows });
  const widths = head.map((title, i) => Math.max(title.length, ...body.map(row => row[i].length)));
  const numeric = numericColumns({ columns, rows });
  const align = (cell: string, i: number): string => (numeric[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i]));
  const line = (row: string[]) => row.map(align).join('  ').trimEnd();
  const painted = (row: string[], r: number) =>
    row
      .map((cell, i) => align(cell, i).replace(cell, () => paint(cell, r, i)))
      .join('  ')
      .trimEnd();
  return [line(head), line(widths.map(width => '─'.repeat(width))), ...body.map(painted)].join('\n');
}

/** The same for Markdown. */
export function markdownTable<K extends string>(table: Table<K>): string {
  const [head, ...body] = cells(table).map(row => `| ${row.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`);
  return [
    head,
    `|${numericColumns(table)
      .map(numeric => (numeric ? '---:' : '---'))
      .join('|')}|`,
    ...body,
  ].join('\n');
}

/** The same for a page. */
export function htmlTable<K extends string>(table: Table<K>): string {
  const numeric = numericColumns(table);
  const [head, ...body] = cells(table);
  const line = (tag: string, row: string[]) =>
    `<tr>${row.map((cell, i) => `<${tag}${numeric[i] ? ' class="number"' : ''}>${escape(cell)}`).join('')}`;
  return `<div class="wide"><table>${line('th', head)}${body.map(row => line('td', row)).join('\n')}</table></div>`;
}

/** `4067704` → `4,067,704`. */
export function thousands(value: number): string {
  return value.toLocaleString('en-US');
}
