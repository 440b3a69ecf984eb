import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { drawing, isCrowded, libraries } from '../charts/embed';
import { toPdf } from '../charts/pdf';
import { toPng } from '../charts/png';
import type { Chart } from '../charts/style';
import { toSvg } from '../charts/svg';
import { parseDataset, sourceOf } from '../data/open';
import type { Run } from '../runs/store';
import { readTradeoffs, TRADEOFFS_FILE, type Tradeoffs } from '../runs/tradeoffs';
import { readResults, resultsFile, type TrialResult } from '../runs/trialResults';
import { ensureFolder, writeFileAtomic } from '../util/files';
import { escapeHtml } from '../util/html';
import { csvTable, htmlTable, jsonTable, latexTable, markdownTable } from '../util/tables';
import type { ReportedExperiment } from './experiment';
import { experimentSection } from './experimentSections';
import { page, prose } from './page';
import { runSections } from './runSections';
import { INTERVALS, type Section } from './sections';
import { reportedSection, tradeoffSection } from './tradeoffSections';

/** All that the lab has found. */
export interface Findings {
  /** The dataset whose results they are. */
  data: string;
  experiments: readonly ReportedExperiment[];
  /** Rows by the experiment's name. */
  results: Readonly<Record<string, readonly TrialResult[]>>;
  tradeoffs?: Tradeoffs;
  runs: readonly Run[];
}

/** The results of experiments on a dataset. Throws UserError for files that hold something else. */
export function readFindings(data: string, experiments: readonly ReportedExperiment[], runs: readonly Run[]): Findings {
  const results = Object.fromEntries(experiments.map(({ name }) => [name, readResults(resultsFile(name, data))]));
  return { data, experiments, results, runs, tradeoffs: existsSync(TRADEOFFS_FILE) ? readTradeoffs() : undefined };
}

/** Where a report's files are. */
export const labReportFiles = (folder: string) => ({
  page: join(folder, 'report.html'),
  tables: join(folder, 'tables.md'),
  data: join(folder, 'tables'),
  charts: join(folder, 'charts'),
});

/**
 * Writes a page with all findings, which needs nothing but itself; each of its charts as SVG, PNG and specification, and where asked for as PDF
 * without a title, which takes longer than all else; and its tables as Markdown, CSV, JSON and LaTeX. Equal findings give equal bytes. What was not measured yet has a sentence that says how it is.
 */
export async function writeLabReport(findings: Findings, folder: string, { pdf = false } = {}): Promise<void> {
  const files = labReportFiles(folder);
  const sections = await labSections(findings);
  const charts = Object.assign({}, ...sections.map(section => section.charts)) as Record<string, Chart>;
  ensureFolder(files.charts);
  const stills: Record<string, string> = {};
  for (const [name, spec] of Object.entries(charts)) {
    const svg = await toSvg(spec);
    const file = (extension: string): string => join(files.charts, `${name}.${extension}`);
    writeFileAtomic(file('json'), `${JSON.stringify(spec, null, 1)}\n`);
    writeFileAtomic(file('svg'), svg);
    writeFileAtomic(file('png'), await toPng(svg));
    const untitled = { ...spec, title: undefined, background: 'transparent' };
    stills[name] = await toSvg(untitled); // the page has the title, and may be dark
    if (pdf) writeFileAtomic(file('pdf'), await toPdf(stills[name])); // a paper has a caption
  }
  writeFileAtomic(
    files.tables,
    [`${INTERVALS}\n`, ...sections.filter(({ tables }) => tables.length > 0).map(markdown)].join('\n'),
  );
  for (const { id, tables } of sections)
    tables.forEach((table, i) => {
      const file = (extension: string): string => join(files.data, `${id}${i === 0 ? '' : `-${i + 1}`}.${extension}`);
      writeFileAtomic(file('csv'), csvTable(table));
      writeFileAtomic(file('json'), jsonTable(table));
      writeFileAtomic(file('tex'), latexTable(table));
    });
  writeFileAtomic(
    files.page,
    page({
      title: 'Report',
      head: `<style>${STYLE}</style>\n`,
      scripts: 'inline',
      body: body(findings, sections, charts, stills),
    }),
  );
}

async function labSections({ data, experiments, results, tradeoffs, runs }: Findings): Promise<Section[]> {
  return [
    tradeoffSection(results.variants ?? [], tradeoffs),
    ...experiments.map(experiment => experimentSection(experiment, data, results[experiment.name] ?? [])),
    reportedSection(tradeoffs),
    ...(await runSections(runs)),
  ];
}

function markdown({ title, text, tables, rerun }: Section): string {
  const commands = Object.entries(rerun)
    .slice(0, 1)
    .map(([point, command]) => `${point}: \`${command}\``); // the first makes all
  return `${[`## ${title}`, ...text, ...tables.map(markdownTable), ...commands].join('\n\n')}\n`;
}

function body(
  { data, results, runs }: Findings,
  sections: readonly Section[],
  charts: Record<string, Chart>,
  stills: Record<string, string>,
): string {
  const trainedOn = [
    ...Object.values(results).flatMap(rows => rows.map(row => row.origin?.recipe.data ?? row.data)),
    ...runs.map(({ record }) => record.recipe.data),
  ];
  const synthetic = trainedOn.some(spec => sourceOf(parseDataset(spec).kind)?.isSynthetic)
    ? ' Petals are synthetic flowers: they show that networks learn, and prove nothing about photographs.'
    : '';
  return `<h1>EdgeViT Lab: what was found on ${escapeHtml(data)}</h1>
<p>Filled marks are ours, and name the commit that makes them again. Hollow ones were reported by others, or trained here by code that no commit holds or no row names. Point at a mark to read it; click on a name in a legend to follow a curve, on the head of a column to sort by it.${synthetic}</p>
<p>${escapeHtml(INTERVALS)}</p>
<nav><ul>${sections.map(({ id, title }) => `<li><a href="#${escapeHtml(id)}">${escapeHtml(title)}</a>`).join('')}</ul></nav>
${sections.map(section => html(section, stills)).join('\n')}
${libraries()}${drawing(charts)}
<script>${BEHAVIOUR}</script>`;
}

function html(
  { id, title, text, charts, captions, tables, rerun, pictures }: Section,
  stills: Record<string, string>,
): string {
  const figures = Object.entries(charts).map(([name, spec]) =>
    figure(name, spec, stills[name], text.join('\n'), captions[name]),
  );
  const commands = Object.entries(rerun).map(
    ([point, command]) => `<dt>${escapeHtml(point)}<dd><code>${escapeHtml(command)}</code>`,
  );
  return [
    `<section id="${escapeHtml(id)}"><details open><summary><h2>${escapeHtml(title)}</h2></summary>`,
    ...text.map(paragraph => `<p>${prose(paragraph)}</p>`),
    ...(pictures.length > 0 ? [`<div class="images">${pictures.map(picture).join('\n')}</div>`] : []),
    ...(figures.length > 0 ? [`<div class="charts">${figures.join('\n')}</div>`] : []),
    ...tables.map(htmlTable),
    ...(commands.length > 0
      ? [
          `<details><summary>How to make each point again</summary><dl class="commands">${commands.join('')}</dl></details>`,
        ]
      : []),
    '</details></section>',
  ].join('\n');
}

/** A chart under its title; what the section's text says already is not repeated. */
function figure(name: string, spec: Chart, svg: string, text: string, caption = ''): string {
  const [title, subtitle] = [spec.title.text, spec.title.subtitle ?? []].map(lines => lines.join(' '));
  const crowded = isCrowded(spec);
  return `<figure id="${escapeHtml(name)}"${crowded ? ' class="crowded"' : ''}><figcaption><b>${escapeHtml(title)}</b>${subtitle && !text.includes(subtitle) ? `<br>${escapeHtml(subtitle)}` : ''}${caption && `<br>${escapeHtml(caption)}`}</figcaption><div class="chart">${svg}</div></figure>`;
}

function picture({ jpeg, caption: [first, ...rest] }: Section['pictures'][number]): string {
  return `<figure><img alt="${escapeHtml(first)}" src="data:image/jpeg;base64,${jpeg.toString('base64')}"><figcaption><b>${escapeHtml(first)}</b>${rest.map(line => `<br>${escapeHtml(line)}`).join('')}</figcaption></figure>`;
}

const STYLE = `
nav ul { columns: 16rem; padding: 0; list-style: none; } a { color: inherit; }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--quiet); margin-bottom: .5rem; } figcaption b { color: CanvasText; font-weight: 600; font-size: .95rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 2rem; margin: 1.5rem 0; }
.charts figure { min-width: 0; position: relative; } .crowded { grid-column: 1 / -1; }
.chart { overflow-x: auto; } .chart > svg { max-width: 100%; min-width: 26rem; height: auto; }
.chart.vega-embed.has-actions { display: block; width: 100%; padding: 0; position: static; } .charts figcaption { padding-right: 2.5rem; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }
.images img { width: 5.5rem; height: 5.5rem; display: block; margin-bottom: .25rem; } .images figcaption { font-size: .75rem; line-height: 1.35; overflow-wrap: anywhere; } .images b { font-size: .75rem; }
.commands { grid-template-columns: 1fr; } .commands dt { font-weight: 600; margin-top: .5rem; }
td:first-child { max-width: 24rem; white-space: normal; overflow-wrap: anywhere; } summary { cursor: pointer; } summary h2 { display: inline-block; margin: 1.5rem 0 .5rem; } section > details { border-top: 1px solid var(--line); }
th[role="button"] { cursor: pointer; } th[aria-sort="ascending"]::after { content: " ▲"; } th[aria-sort="descending"]::after { content: " ▼"; }
.chart.vega-embed .vega-actions { background: Canvas; border-color: var(--line); } .chart.vega-embed .vega-actions::before, .chart.vega-embed .vega-actions::after { display: none; }
.chart.vega-embed .vega-actions a { color: CanvasText; } .chart.vega-embed .vega-actions a:hover { background: var(--line); }
.chart.vega-embed details summary { background: Canvas; color: CanvasText; border-color: var(--line); }
@media print { :root { color-scheme: light; } main { max-width: none; } nav, .vega-embed details { display: none; } summary { list-style: none; }
  figure, tr, thead { break-inside: avoid; } h2, summary, thead { break-after: avoid; } .charts { display: block; } .charts figure { margin-bottom: 1.5rem; } .wide, .chart { overflow: visible; } table { white-space: normal; } }
#vg-tooltip-element.vg-tooltip { background: Canvas; color: CanvasText; border-color: var(--line); font: .8rem system-ui, sans-serif; } #vg-tooltip-element table tr td.key { color: var(--quiet); }
`;

/** So many commands are printed with their section; a hundred would fill ten sheets, and are there where a reader has unfolded them. */
const PRINTED_COMMANDS = 12;

/** Tables are sorted by the column whose head is clicked: numbers by value, what is none last. On paper all sections are open. */
const BEHAVIOUR = `
const value = text => { const number = parseFloat(text.replace(/,/g, '').replace('\u2212', '-')); return Number.isNaN(number) ? -Infinity : number; };
for (const table of document.querySelectorAll('table')) {
  const [head] = table.tHead.rows;
  const [body] = table.tBodies;
  const rows = [...body.rows];
  [...head.cells].forEach((cell, column) => {
    cell.tabIndex = 0;
    cell.role = 'button';
    const sort = () => {
      const down = cell.ariaSort === 'none' || cell.ariaSort === null ? cell.className === 'number' : cell.ariaSort === 'ascending';
      for (const other of head.cells) other.ariaSort = other === cell ? (down ? 'descending' : 'ascending') : 'none';
      const text = row => row.cells[column].textContent;
      const order = cell.className === 'number' ? (a, b) => value(text(a)) - value(text(b)) : (a, b) => text(a).localeCompare(text(b));
      rows.sort((a, b) => (down ? -order(a, b) : order(a, b)));
      body.append(...rows);
    };
    cell.addEventListener('click', sort);
    cell.addEventListener('keydown', event => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); sort(); } });
  });
}
let folded = [];
addEventListener('beforeprint', () => {
  folded = [...document.querySelectorAll('section details:not([open])')].filter(each => each.querySelectorAll('dt').length <= ${PRINTED_COMMANDS});
  for (const each of folded) each.open = true;
});
addEventListener('afterprint', () => { for (const each of folded) each.open = false; });
const reveal = () => document.getElementById(decodeURIComponent(location.hash.slice(1)))?.querySelector('details')?.setAttribute('open', '');
addEventListener('hashchange', reveal);
`;
