import { escapeHtml } from './html';
import { printable } from './text';

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
  return [keys.map(key => columns[key]), ...rows.map(row => keys.map(key => printable(row[key])))];
}

/** Lines of cells aligned by column: to the right where `right` says so, else to the left. `paint` changes how a cell looks, not its width. */
export function alignColumns(
  rows: readonly (readonly string[])[],
  right: readonly boolean[],
  { gap = '  ', paint = (text: string, _row: number, _column: number): string => text } = {},
): string[] {
  const widths = right.map((_, column) => Math.max(0, ...rows.map(row => row[column].length)));
  return rows.map((row, r) =>
    row
      .map((cell, column) => {
        const padding = ' '.repeat(widths[column] - cell.length);
        return right[column] ? padding + paint(cell, r, column) : paint(cell, r, column) + padding;
      })
      .join(gap)
      .trimEnd(),
  );
}

/** Rows under a head and a rule, aligned as `alignColumns` does. */
export function ruledTable(
  head: readonly string[],
  body: readonly (readonly string[])[],
  right: readonly boolean[],
  paint?: (text: string, row: number, column: number) => string,
): string {
  const rule = head.map((title, column) => '─'.repeat(Math.max(title.length, ...body.map(row => row[column].length))));
  return alignColumns([head, rule, ...body], right, {
    paint: (cell, row, column) => (paint && row >= 2 ? paint(cell, row - 2, column) : cell),
  }).join('\n');
}

/** Rows under their column names, aligned; words to the left, the rest to the right. `paint` changes how a cell looks, not its width. */
export function textTable<K extends string>(
  columns: Record<K, string>,
  rows: readonly Record<K, string>[],
  paint?: (text: string, row: number, column: number) => string,
): string {
  const [head, ...body] = cells({ columns, rows });
  return ruledTable(head, body, numericColumns({ columns, rows }), paint);
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

/** The same as comma-separated values (RFC 4180). */
export function csvTable<K extends string>(table: Table<K>): string {
  const cell = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return cells(table)
    .map(row => `${row.map(cell).join(',')}\r\n`)
    .join('');
}

/** The same as JSON: an object for each row, by the columns' titles. */
export function jsonTable<K extends string>(table: Table<K>): string {
  const [head, ...body] = cells(table);
  const rows = body.map(row => `  ${JSON.stringify(Object.fromEntries(head.map((title, i) => [title, row[i]])))}`);
  return `[\n${rows.join(',\n')}\n]\n`;
}

/** The same for LaTeX, with the rules of the package booktabs. */
export function latexTable<K extends string>(table: Table<K>): string {
  const line = (row: readonly string[]): string => `${row.map(latex).join(' & ')} \\\\`;
  const [head, ...body] = cells(table);
  const columns = numericColumns(table).map(numeric => (numeric ? 'r' : 'l'));
  return [
    `\\begin{tabular}{${columns.join('')}}`,
    '\\toprule',
    line(head),
    '\\midrule',
    ...body.map(line),
    '\\bottomrule',
    '\\end{tabular}',
    '',
  ].join('\n');
}

const LATEX: Record<string, string> = {
  '\\': '\\textbackslash{}',
  '~': '\\textasciitilde{}',
  '^': '\\textasciicircum{}',
  '±': '$\\pm$',
  '−': '$-$',
  '×': '$\\times$',
  '–': '--',
};

/** Text as LaTeX has it: characters that would be commands, and those that need one. */
function latex(text: string): string {
  return text.replace(/[\\~^±−×–]|[#$%&_{}]/g, character => LATEX[character] ?? `\\${character}`);
}

/** The same for a page. */
export function htmlTable<K extends string>(table: Table<K>): string {
  const numeric = numericColumns(table);
  const [head, ...body] = cells(table);
  const line = (tag: string, row: string[]) =>
    `<tr>${row.map((cell, i) => `<${tag}${numeric[i] ? ' class="number"' : ''}>${escapeHtml(cell)}`).join('')}`;
  return `<div class="wide"><table><thead>${line('th', head)}<tbody>${body.map(row => line('td', row)).join('\n')}</table></div>`;
}

/** `4067704` → `4,067,704`. */
export function thousands(value: number): string {
  return value.toLocaleString('en-US');
}
