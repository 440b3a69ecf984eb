import { confusionMatrix, perClassAccuracy } from '../charts/classes';
import { runCurves } from '../charts/curves';
import { PALETTE } from '../charts/style';
import { contradictionOf } from '../runs/consistency';
import type { Run } from '../runs/store';
import { UserError } from '../util/errors';
import { forcedSegments, rerunCommand } from './commands';
import { mistakePictures } from './mistakes';
import { type Section, section } from './sections';
import { RESULT_COLUMNS, resultRow } from './tables';

/** Runs in one chart, as many as there are colours; and of which the mistakes are shown, with images: beyond them a page grows and is not read. */
const [DRAWN, DETAILED] = [PALETTE.length, 2];

/** Runs beside each other, then each by itself: where it errs, with images. Runs whose files can't be read are named and left out. */
export async function runSections(all: readonly Run[]): Promise<Section[]> {
  const broken = all.map(brokenFile);
  const runs = all.filter((_, i) => broken[i] === undefined);
  const leftOut = broken.filter(why => why !== undefined).map(why => `Left out: ${why}`);
  if (runs.length === 0 && leftOut.length > 0) return [section('runs', 'Runs', { text: leftOut })];
  if (runs.length === 0)
    return [
      section('runs', 'Runs', {
        text: ['There is no run that is done yet: `npm run train` makes one, and `npm run report -- RUN` shows it.'],
      }),
    ];
  const curves = runs
    .slice(0, DRAWN)
    .map(run => ({ name: run.record.name, epochs: run.epochs() }))
    .filter(({ epochs }) => epochs.length > 0);
  const together = section('runs', runs.length === 1 ? 'A run' : 'Runs', {
    text: [
      ...(runs.length === 1 ? [] : ['Runs of other data, sizes or epochs do not compare.']),
      ...(runs.length > DETAILED
        ? [
            `Of ${runs.length} runs the table has all, the charts the first ${Math.min(DRAWN, runs.length)}, and where they err is shown of the first ${DETAILED}: \`npm run report -- RUN\` shows others.`,
          ]
        : []),
      ...runs.flatMap(({ record }) =>
        forcedSegments(record).map(text => `${record.name}: ${text} No command makes it again.`),
      ),
      ...leftOut,
    ],
    charts:
      curves.length === 0
        ? {}
        : {
            'runs-top1': runCurves(curves, 'top1', 'Top-1 after each epoch'),
            'runs-loss': runCurves(curves, 'loss', 'Loss after each epoch'),
          },
    tables: [{ columns: RESULT_COLUMNS, rows: runs.map(run => ({ ...resultRow(run) })) }],
    rerun: Object.fromEntries(
      runs
        .filter(({ record }) => record.segments.length === 0)
        .map(({ record }) => [record.name, rerunCommand(record)]),
    ),
  });
  const each: Section[] = [];
  for (const run of runs.slice(0, DETAILED)) each.push(await runSection(run));
  return [together, ...each];
}

/** Why a run's files can't be shown: one can't be read, or they contradict each other. */
function brokenFile(run: Run): string | undefined {
  try {
    if (run.status !== 'done') run.metrics();
    const contradicts = contradictionOf(run);
    return contradicts && `the run '${run.record.name}' contradicts itself: ${contradicts}.`;
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
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
