import { createHash } from 'node:crypto';
import type { TopLevelSpec } from 'vega-lite';
import { printableLines } from '../util/text';

let drawing: Promise<unknown> = Promise.resolve();

/**
 * Draws a Vega-Lite specification without a browser: equal specifications give equal bytes, also when several are drawn at once,
 * and the ids of clips and gradients differ between charts, so that several can stand in one page.
 */
export function toSvg(spec: object): Promise<string> {
  const drawn = drawing.then(() => draw(spec));
  drawing = drawn.catch(() => {}); // one after another: vega counts ids for the whole process
  return drawn;
}

async function draw(spec: object): Promise<string> {
  const [vega, vegaLite] = await Promise.all([import('vega'), import('vega-lite')]); // ES modules with top-level await
  vega.resetSVGDefIds();
  const view = new vega.View(vega.parse(vegaLite.compile(spec as TopLevelSpec).spec), { renderer: 'none' });
  try {
    const svg = printableLines(await view.toSVG()); // of what names may hold, XML has no way to write some
    const chart = createHash('sha256').update(svg).digest('hex').slice(0, 8);
    return svg.replace(/(\bid="|url\(#)(clip|gradient_)/g, `$1chart-${chart}-$2`);
  } finally {
    view.finalize();
  }
}
