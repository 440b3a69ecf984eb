import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Chart } from './style';

/** Libraries that draw charts in a page, in the order in which they need each other. */
const LIBRARIES = ['vega', 'vega-lite', 'vega-embed'];

/** HTML: the libraries whole, so that the page asks for nothing. */
export function libraries(): string {
  const { resolve } = createRequire(__filename);
  const sources = LIBRARIES.map(name => readFileSync(join(dirname(resolve(name)), `${name}.min.js`), 'utf8'));
  return sources
    .map(source => `<script>${withoutMap(source).replaceAll('</script', '<\\/script')}</script>\n`)
    .join('');
}

/** A source map would be another file. */
function withoutMap(source: string): string {
  return source.replace(/^\/\/# sourceMappingURL=.*$/gm, '');
}

/** Pixels below which a column's label can't be read. */
const LEGIBLE_STEP = 20;

/** A matrix of many classes keeps its own width, however wide the page is: narrower, its labels could not be read. */
export function isCrowded(spec: object): boolean {
  const step = (spec as { width?: { step?: unknown } | null }).width?.step;
  return typeof step === 'number' && step < LEGIBLE_STEP;
}

/** What a page takes of a chart: without its title, which the page has as text, and as wide as there is room. */
function fitted({ $schema: _, title: __, ...spec }: Chart): object {
  return {
    ...spec,
    ...('width' in spec &&
      !isCrowded(spec) && { width: 'container', autosize: { type: 'fit-x', contains: 'padding' } }),
    background: 'transparent',
  };
}

/**
 * HTML: draws each chart by its name in place of the SVG that stands in the element of that id, which stays where scripts don't run.
 * Expressions are interpreted, so that the page's policy need not allow evaluation.
 */
export function drawing(charts: Record<string, Chart>): string {
  const specs = JSON.stringify(
    Object.fromEntries(Object.entries(charts).map(([name, spec]) => [name, fitted(spec)])),
  ).replaceAll('<', '\\u003c');
  return `<script type="application/json" id="specs">${specs}</script>\n<script>${DRAW}</script>`;
}

/** Below so many pixels a legend has one entry in a line. */
const NARROW = 600;

const DRAW = `
const specs = JSON.parse(document.getElementById('specs').textContent);
for (const [name, spec] of Object.entries(specs)) {
  const still = document.getElementById(name).querySelector('.chart');
  const live = still.cloneNode();
  still.before(live);
  still.hidden = true;
  vegaEmbed(live, spec, {
    mode: 'vega-lite', renderer: 'svg', ast: true, logLevel: vega.Error, downloadFileName: name,
    actions: { export: true, source: false, compiled: false, editor: false },
    config: innerWidth < ${NARROW} ? { legend: { columns: 1 } } : {},
  }).then(() => still.remove(), error => {
    live.remove();
    still.hidden = false;
    console.error(name, error);
  });
}`;
