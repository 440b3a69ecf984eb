import { confusionMatrix, perClassAccuracy } from '../charts/classes';
import { learningCurve } from '../charts/curves';
import { toSvg } from '../charts/svg';
import { parseDataset, sourceOf } from '../data/open';
import { percent } from '../runs/console';
import { FIELDS, reproducibility, shown } from '../runs/environment';
import { type Run, reportFiles } from '../runs/store';
import { writeFileAtomic } from '../util/files';
import { escapeHtml } from '../util/html';
import { flattenRecord } from '../util/records';
import { htmlTable, thousands } from '../util/tables';
import { counted } from '../util/text';
import { forcedSegments, rerunCommand } from './commands';
import { list, page } from './page';
import { RESULT_COLUMNS, resultRow } from './tables';

/** Draws a run's learning curve, and writes a page that needs nothing but itself: no script, no network. */
export async function writeReport(run: Run): Promise<void> {
  const files = reportFiles(run);
  const curve = learningCurve(run.epochs(), run.record.name);
  writeFileAtomic(files.curve, await toSvg(curve));
  const evaluation = run.evaluation();
  const specs = evaluation ? [curve, perClassAccuracy(evaluation), confusionMatrix(evaluation)] : [curve];
  const charts = await Promise.all(specs.map(spec => toSvg({ ...spec, background: 'transparent' }))); // the page may be dark
  writeFileAtomic(files.page, runPage(run, charts));
}

function runPage(run: Run, charts: string[]): string {
  const { record } = run;
  const { name, dataset, recipeName, environment: here, result } = record;
  const headline = result
    ? `${percent(result.top1)} top-1 on ${thousands(dataset.test)} test images; the best epoch, ${result.best.epoch}, had ${percent(result.best.top1)}${dataset.val > 0 ? ` on ${counted(dataset.val, 'validation image')}` : ''}.`
    : `Status: ${run.status}.`;
  const surroundings = Object.entries(FIELDS).map(([field, { name }]) => [
    name,
    shown(field as keyof typeof FIELDS, here),
  ]);
  const segments = forcedSegments(record);
  return page({
    title: name,
    body: `<h1>${escapeHtml(name)}</h1>
<p>${escapeHtml(headline)} Data: ${escapeHtml(dataset.description)}.${sourceOf(parseDataset(record.recipe.data).kind)?.isSynthetic ? ' Synthetic flowers show that the network learns; they prove nothing about photographs.' : ''}</p>
${htmlTable({ columns: RESULT_COLUMNS, rows: [resultRow(run)] })}
${charts.map(chart => `<figure class="wide">${chart}</figure>`).join('\n')}
<h2>Run it again</h2>
${segments.map(text => `<p>${escapeHtml(text)}</p>\n`).join('')}${segments.length > 0 ? '<p>This command trains all of it in one environment, and ends at other bytes.</p>\n' : ''}<p>${escapeHtml(reproducibility(here))} The weights' sha256 is <code>${result ? result.weights : 'not known yet'}</code>.</p>
<pre>${escapeHtml(rerunCommand(record))}</pre>
<div class="columns">
<section><h2>Recipe ${escapeHtml(recipeName)}</h2>${list(
      Object.fromEntries(
        flattenRecord(record.recipe).map(([key, value]) => [
          key,
          Array.isArray(value) ? value.join(', ') : String(value),
        ]),
      ),
    )}</section>
<section><h2>Environment</h2>${list({
      ...Object.fromEntries(surroundings),
      started: record.started,
      ended: record.ended ?? '–',
      'data fingerprint': dataset.fingerprint.slice(0, 16),
      'images left out': String(dataset.skipped),
    })}</section>
</div>`,
  });
}
