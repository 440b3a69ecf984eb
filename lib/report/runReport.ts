import { confusionMatrix, perClassAccuracy } from '../charts/classes';
import { learningCurve } from '../charts/curves';
import { toSvg } from '../charts/svg';
import { percent } from '../runs/console';
import { type Run, type RunRecord, reportFiles } from '../runs/store';
import { settingsOf } from '../train/recipe';
import { writeFileAtomic } from '../util/files';
import { escapeHtml } from '../util/html';
import { flattenRecord } from '../util/records';
import { htmlTable, thousands } from '../util/tables';
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
    ? `${percent(result.top1)} top-1 on ${thousands(dataset.test)} test images; the best epoch, ${result.best.epoch}, had ${percent(result.best.top1)}.`
    : `Status: ${run.status}.`;
  const git = here.git
    ? `${here.git.commit.slice(0, 12)}${here.git.dirty ? ', changed since' : ''}`
    : 'not a git checkout';
  return page({
    title: name,
    body: `<h1>${escapeHtml(name)}</h1>
<p>${escapeHtml(headline)} Data: ${escapeHtml(dataset.description)}.${dataset.name === 'petals' ? ' Synthetic flowers show that the network learns; they prove nothing about photographs.' : ''}</p>
${htmlTable({ columns: RESULT_COLUMNS, rows: [resultRow(run)] })}
${charts.map(chart => `<figure class="wide">${chart}</figure>`).join('\n')}
<h2>Run it again</h2>
<p>Equal recipes give equal bytes on equal engines. The weights' sha256 is <code>${result ? result.weights : 'not known yet'}</code>.</p>
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
      engine: here.engine,
      tfjs: here.tfjs,
      node: here.node,
      platform: here.platform,
      cpu: `${here.cpu}, ${here.cores} cores`,
      commit: git,
      started: record.started,
      ended: record.ended ?? '–',
      'data fingerprint': dataset.fingerprint.slice(0, 16),
      'pictures left out': String(dataset.skipped),
    })}</section>
</div>`,
  });
}

/** The command that computes the same run again. */
export function rerunCommand({ recipe, recipeName, init, dataOptions: { flowers102Dir, side } }: RunRecord): string {
  const settings = Object.entries(settingsOf(recipe, recipeName)).flatMap(([key, value]) => [
    '--set',
    `${key}=${value}`,
  ]);
  const flags = Object.entries({ init: init?.path, 'flowers102-dir': flowers102Dir, side });
  const words = [
    `--recipe=${recipeName}`,
    ...settings,
    ...flags.filter(([, value]) => value !== undefined).map(([flag, value]) => `--${flag}=${value}`),
  ];
  return `npm run train -- ${words.map(word => (/^[\w.,:/=+-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ')}`;
}
