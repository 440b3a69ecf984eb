import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { drawing, libraries } from '../charts/embed';
import { toPng } from '../charts/png';
import type { Chart } from '../charts/style';
import { toSvg } from '../charts/svg';
import { sourceOf } from '../data/open';
import type { Run } from '../runs/store';
import { readTradeoffs, TRADEOFFS_FILE, type Tradeoffs } from '../runs/tradeoffs';
import { readResults, resultsFile, type TrialResult } from '../runs/trialResults';
import { ensureFolder, writeFileAtomic } from '../util/files';
import { escapeHtml } from '../util/html';
import { htmlTable, markdownTable } from '../util/tables';
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
  charts: join(folder, 'charts'),
});

/**
 * Writes a page with all findings, which needs nothing but itself; each of its charts as SVG, PNG and specification; and its tables as
 * Markdown. Equal findings give equal bytes. What was not measured yet has a sentence that says how it is.
 */
export async function writeLabReport(findings: Findings, folder: string): Promise<void> {
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
    stills[name] = await toSvg({ ...spec, title: undefined, background: 'transparent' }); // the page may be dark
  }
  writeFileAtomic(
    files.tables,
    [`${INTERVALS}\n`, ...sections.filter(({ tables }) => tables.length > 0).map(markdown)].join('\n'),
  );
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
  { data }: Findings,
  sections: readonly Section[],
  charts: Record<string, Chart>,
  stills: Record<string, string>,
): string {
  const drawn = sourceOf(data)?.isSynthetic
    ? ' Petals are synthetic flowers: they show that networks learn, and prove nothing about photographs.'
    : '';
  return `<h1>EdgeViT Lab: what was found on ${escapeHtml(data)}</h1>
<p>Filled marks are ours, and name the commit that makes them again. Hollow ones were reported by others, or trained here before rows named their commit. Point at a mark to read it; click on a name in a legend to follow a curve.${drawn}</p>
<p>${escapeHtml(INTERVALS)}</p>
<nav><ul>${sections.map(({ id, title }) => `<li><a href="#${escapeHtml(id)}">${escapeHtml(title)}</a>`).join('')}</ul></nav>
${sections.map(section => html(section, stills)).join('\n')}
${libraries()}${drawing(charts)}`;
}

function html({ id, title, text, charts, tables, rerun, pictures }: Section, stills: Record<string, string>): string {
  const figures = Object.entries(charts).map(([name, spec]) => figure(name, spec, stills[name], text.join('\n')));
  const commands = Object.entries(rerun).map(
    ([point, command]) => `<dt>${escapeHtml(point)}<dd><code>${escapeHtml(command)}</code>`,
  );
  return [
    `<section id="${escapeHtml(id)}"><h2>${escapeHtml(title)}</h2>`,
    ...text.map(paragraph => `<p>${prose(paragraph)}</p>`),
    ...(pictures.length > 0 ? [`<div class="images">${pictures.map(picture).join('\n')}</div>`] : []),
    ...(figures.length > 0 ? [`<div class="charts">${figures.join('\n')}</div>`] : []),
    ...tables.map(htmlTable),
    ...(commands.length > 0
      ? [
          `<details><summary>How to make each point again</summary><dl class="commands">${commands.join('')}</dl></details>`,
        ]
      : []),
    '</section>',
  ].join('\n');
}

/** A chart under its title; what the section's text says already is not repeated. */
function figure(name: string, spec: Chart, svg: string, text: string): string {
  const [title, subtitle] = [spec.title.text, spec.title.subtitle ?? []].map(lines => lines.join(' '));
  const crowded =
    'width' in spec && typeof spec.width === 'object' && 'step' in spec.width && spec.width.step < LEGIBLE_STEP;
  return `<figure id="${escapeHtml(name)}"${crowded ? ' class="crowded"' : ''}><figcaption><b>${escapeHtml(title)}</b>${subtitle && !text.includes(subtitle) ? `<br>${escapeHtml(subtitle)}` : ''}</figcaption><div class="chart">${svg}</div></figure>`;
}

/** A matrix with narrower columns takes the whole width of the page. */
const LEGIBLE_STEP = 20;

function picture({ jpeg, caption: [first, ...rest] }: Section['pictures'][number]): string {
  return `<figure><img alt="${escapeHtml(first)}" src="data:image/jpeg;base64,${jpeg.toString('base64')}"><figcaption><b>${escapeHtml(first)}</b>${rest.map(line => `<br>${escapeHtml(line)}`).join('')}</figcaption></figure>`;
}

const STYLE = `
nav ul { columns: 16rem; padding: 0; list-style: none; } a { color: inherit; }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--quiet); margin-bottom: .5rem; } figcaption b { color: CanvasText; font-weight: 600; font-size: .95rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 2rem; margin: 1.5rem 0; }
.charts figure { min-width: 0; position: relative; } .crowded { grid-column: 1 / -1; }
.chart { overflow-x: auto; } .chart > svg { max-width: 100%; min-width: 26rem; height: auto; } .crowded .vega-embed { min-width: 52rem; }
.chart.vega-embed.has-actions { display: block; width: 100%; padding: 0; position: static; } .charts figcaption { padding-right: 2.5rem; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }
.images img { width: 5.5rem; height: 5.5rem; display: block; margin-bottom: .25rem; } .images figcaption { font-size: .75rem; line-height: 1.35; overflow-wrap: anywhere; } .images b { font-size: .75rem; }
.commands { grid-template-columns: 1fr; } .commands dt { font-weight: 600; margin-top: .5rem; }
#vg-tooltip-element.vg-tooltip { background: Canvas; color: CanvasText; border-color: var(--line); font: .8rem system-ui, sans-serif; } #vg-tooltip-element table tr td.key { color: var(--quiet); }
`;
