import { join } from 'node:path';
import { writeFileAtomic } from '../files';
import { settingsOf } from '../train/recipes';
import { percent } from './console';
import { confusionMatrix, learningCurve, perClassAccuracy } from './plots';
import { RESULT_COLUMNS, resultRow, thousands } from './results';
import type { Run, RunRecord } from './runs';
import { toSvg } from './svg';

/** Where a run's learning curve and page are. */
export const reportFiles = (run: Run) => ({ curve: join(run.folder, 'learning-curve.svg'), page: join(run.folder, 'report.html') });

/** Draws a run's learning curve, and writes a page that needs nothing but itself: no script, no network. */
export async function writeReport(run: Run): Promise<void> {
  const files = reportFiles(run);
  const curve = learningCurve(run.epochs(), run.record.name);
  writeFileAtomic(files.curve, await toSvg(curve));
  const evaluation = run.evaluation();
  const specs = evaluation ? [curve, perClassAccuracy(evaluation), confusionMatrix(evaluation)] : [curve];
  const charts = await Promise.all(specs.map(spec => toSvg({ ...spec, background: 'transparent' }))); // the page may be dark
  writeFileAtomic(files.page, page(run, charts));
}

function page(run: Run, charts: string[]): string {
  const { record } = run;
  const { name, dataset, recipeName, environment: here, result } = record;
  const row = resultRow(run);
  const columns = Object.entries(RESULT_COLUMNS) as [keyof typeof RESULT_COLUMNS, string][];
  const headline = result ? `${percent(result.top1)} top-1 on ${thousands(dataset.test)} test pictures; the best epoch, ${result.best.epoch}, had ${percent(result.best.top1)}.` : `Status: ${run.status}.`;
  const git = here.git ? `${here.git.commit.slice(0, 12)}${here.git.dirty ? ', changed since' : ''}` : 'not a git checkout';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(name)} · EdgeViT Lab</title>
<style>${STYLE}</style>
<main>
<h1>${escape(name)}</h1>
<p>${escape(headline)} Data: ${escape(dataset.description)}.${dataset.name === 'petals' ? ' Drawn flowers show that the network learns; they prove nothing about photographs.' : ''}</p>
<div class="wide"><table><tr>${columns.map(([, title]) => `<th>${title}`).join('')}<tr>${columns.map(([key]) => `<td>${escape(row[key])}`).join('')}</table></div>
${charts.map(chart => `<figure class="wide">${chart}</figure>`).join('\n')}
<h2>Run it again</h2>
<p>Equal recipes give equal bytes on equal engines. The weights' sha256 is <code>${result ? result.weights : 'not known yet'}</code>.</p>
<pre>${escape(rerunCommand(record))}</pre>
<div class="columns">
<section><h2>Recipe ${escape(recipeName)}</h2>${list(flatten(record.recipe))}</section>
<section><h2>Environment</h2>${list({
    engine: here.engine, 'tfjs': here.tfjs, node: here.node, platform: here.platform, cpu: `${here.cpu}, ${here.cores} cores`, commit: git,
    started: record.started, ended: record.ended ?? '–', 'data fingerprint': dataset.fingerprint.slice(0, 16), 'pictures left out': String(dataset.skipped),
  })}</section>
</div>
</main>
</html>
`;
}

const STYLE = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 25%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-size: .9rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); }
pre, code { font: .85rem ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 0 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .85rem; } dd { margin: 0; overflow-wrap: anywhere; }
[class*=role-axis] text, [class*=role-title] text, [class*=role-legend] text { fill: currentColor; }
[class*=role-axis] line { stroke: currentColor; stroke-opacity: .4; }
[class*=role-axis-grid] line { stroke-opacity: .12; }
`;

function list(entries: Record<string, string>): string {
  return `<dl>${Object.entries(entries).map(([key, value]) => `<dt>${escape(key)}<dd>${escape(value)}`).join('')}</dl>`;
}

function flatten(value: object, prefix = ''): Record<string, string> {
  return Object.fromEntries(Object.entries(value).flatMap(([key, entry]) =>
    entry !== null && typeof entry === 'object' && !Array.isArray(entry)
      ? Object.entries(flatten(entry, `${prefix}${key}.`))
      : [[prefix + key, Array.isArray(entry) ? entry.join(', ') : String(entry)]]));
}

/** The command that computes the same run again. */
export function rerunCommand({ recipe, recipeName, init, dataOptions: { flowers102Dir, side } }: RunRecord): string {
  const settings = Object.entries(settingsOf(recipe, recipeName)).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
  const flags = Object.entries({ 'init': init?.path, 'flowers102-dir': flowers102Dir, side });
  const words = [`--recipe=${recipeName}`, ...settings, ...flags.filter(([, value]) => value !== undefined).map(([flag, value]) => `--${flag}=${value}`)];
  return `npm run train -- ${words.map(word => (/^[\w.,:/=+-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ')}`;
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, character => `&#${character.charCodeAt(0)};`);
}
