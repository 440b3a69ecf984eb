import { confusionMatrix, perClassAccuracy } from '../charts/classes';
import { runCurves } from '../charts/curves';
import type { Run } from '../runs/store';
import { mistakePictures } from './mistakes';
import { rerunCommand } from './runReport';
import { type Section, section } from './sections';
import { RESULT_COLUMNS, resultRow } from './tables';

/** Runs beside each other, then each by itself: where it errs, with images. */
export async function runSections(runs: readonly Run[]): Promise<Section[]> {
  if (runs.length === 0)
    return [
      section('runs', 'Runs', {
        text: ['There is no run that is done yet: `npm run train` makes one, and `npm run report -- RUN` shows it.'],
      }),
    ];
  const curves = runs
    .map(run => ({ name: run.record.name, epochs: run.epochs() }))
    .filter(({ epochs }) => epochs.length > 0);
  const together = section('runs', runs.length === 1 ? 'A run' : 'Runs', {
    text: runs.length === 1 ? [] : ['Runs of other data, sizes or epochs do not compare.'],
    charts:
      curves.length === 0
        ? {}
        : {
            'runs-top1': runCurves(curves, 'top1', 'Top-1 after each epoch'),
            'runs-loss': runCurves(curves, 'loss', 'Loss after each epoch'),
          },
    tables: [{ columns: RESULT_COLUMNS, rows: runs.map(run => ({ ...resultRow(run) })) }],
    rerun: Object.fromEntries(runs.map(({ record }) => [record.name, rerunCommand(record)])),
  });
  const each: Section[] = [];
  for (const run of runs) each.push(await runSection(run));
  return [together, ...each];
}

async function runSection(run: Run): Promise<Section> {
  const { name } = run.record;
  const evaluation = run.evaluation();
  if (!evaluation)
    return section(`run-${name}`, `Where ${name} errs`, {
      text: [`The run is ${run.status}: it is evaluated when it is done.`],
    });
  const { text, pictures } = await mistakePictures(run);
  return section(`run-${name}`, `Where ${name} errs`, {
    text,
    pictures,
    charts: {
      [`run-${name}-classes`]: perClassAccuracy(evaluation, 'Accuracy by class'),
      [`run-${name}-confusion`]: confusionMatrix(evaluation, 'Which classes are taken for which'),
    },
  });
}
