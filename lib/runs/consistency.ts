import { median } from '../measure/statistics';
import type { Evaluation, Predictions } from '../train/metrics';
import { printable } from '../util/text';
import type { EpochRow, MetricRow } from './metrics';
import type { Run, RunRecord } from './store';

/** A done run's record, and the files beside it. */
export interface Told {
  record: Pick<RunRecord, 'version' | 'result' | 'model' | 'dataset'> & { recipe: { epochs: number; batch: number } };
  metrics: readonly MetricRow[];
  evaluation: Evaluation;
  predictions: Predictions;
}

/**
 * The first thing that a done run's files say in two ways, in words; undefined where all agree. Everything that follows from predictions is
 * counted from them again, everything that follows from the metrics is looked up there.
 */
export function contradiction({ record, metrics, evaluation, predictions }: Told): string | undefined {
  const { result, dataset, model } = record;
  if (!result) return 'run.json has no result';
  const isSquare = ({ confusion }: Evaluation): boolean =>
    confusion.length === dataset.classes.length && confusion.every(row => row.length === model.outputs);
  if (!isSquare(evaluation))
    return `the confusion of evaluation.json does not have ${dataset.classes.length} × ${model.outputs}`;
  const counted = countAgain(predictions, dataset.classes, model.outputs);
  if (typeof counted === 'string') return `predictions.json ${counted}`;
  const epochs = metrics.filter((row): row is EpochRow => row.kind === 'epoch');
  const steps = metrics.filter(({ kind }) => kind === 'step');
  const losses = meanLosses(metrics);
  const perEpoch = Math.floor(dataset.train / record.recipe.batch);
  const last = epochs.at(-1);
  if (!last) return 'metrics.jsonl has no epochs';
  const best = epochs.reduce((most, row) => (row.evalTop1 > most.evalTop1 ? row : most));
  const said: [what: string, here: unknown, elsewhere: string, there: unknown][] = [
    ['the number of test images in run.json', dataset.test, 'predictions.json', predictions.labels.length],
    ...(Object.keys(counted) as (keyof typeof counted)[]).map((key): [string, unknown, string, unknown] => [
      `${key} of evaluation.json`,
      evaluation[key],
      'predictions.json',
      counted[key],
    ]),
    ['top1 of run.json', result.top1, 'evaluation.json', evaluation.top1],
    ['top5 of run.json', result.top5, 'evaluation.json', evaluation.top5],
    ['the loss of run.json', result.loss, 'evaluation.json', evaluation.loss],
    ['the number of epochs in metrics.jsonl', epochs.length, 'run.json', record.recipe.epochs],
    ['the number of steps in metrics.jsonl', steps.length, 'run.json', record.recipe.epochs * perEpoch],
    ['the order of epochs in metrics.jsonl', epochs.every(({ epoch }, i) => epoch === i + 1), 'itself', true],
    ['the order of steps in metrics.jsonl', steps.every(({ step }, i) => step === i + 1), 'itself', true],
    ['the best epoch of run.json', result.best, 'metrics.jsonl', { epoch: best.epoch, top1: best.evalTop1 }],
    // Format 1 took the lower of two middle values.
    ...(record.version === 1
      ? []
      : ([['the speed of run.json', result.imagesPerSecond, 'metrics.jsonl', medianRate(epochs)]] as [
          string,
          unknown,
          string,
          unknown,
        ][])),
    ...epochs.map(({ epoch, trainLoss }): [string, unknown, string, unknown] => [
      `the training loss of epoch ${epoch} of metrics.jsonl`,
      trainLoss === null ? null : trainLoss.toPrecision(6),
      'its steps',
      losses.get(epoch)?.toPrecision(6),
    ]),
    ...(last.on === 'test'
      ? ([
          ['the last top1 of metrics.jsonl', last.evalTop1, 'evaluation.json', evaluation.top1],
          ['the last top5 of metrics.jsonl', last.evalTop5, 'evaluation.json', evaluation.top5],
          ['the last loss of metrics.jsonl', last.evalLoss, 'evaluation.json', evaluation.loss],
        ] as [string, unknown, string, unknown][])
      : []),
  ];
  const first = said.find(([, here, , there]) => JSON.stringify(here) !== JSON.stringify(there));
  return first && `${first[0]} is ${brief(first[1])}, but by ${first[2]} it is ${brief(first[3])}`;
}

/** The same of a run by its folder; undefined for one that is not done. Throws UserError for a file that can't be read. */
export function contradictionOf(run: Run): string | undefined {
  const { record, status } = run;
  if (status !== 'done') return undefined;
  const [metrics, evaluation, predictions] = [run.metrics(), run.evaluation(), run.predictions()];
  if (evaluation && predictions) return contradiction({ record, metrics, evaluation, predictions });
  return record.version === 1 ? undefined : 'it is done, and what it said of the test images is missing';
}

/** What an evaluation says that its predictions say too; or why they are none. */
function countAgain(
  { labels, top, probabilities }: Predictions,
  classes: readonly string[],
  outputs: number,
): Omit<Evaluation, 'loss'> | string {
  if (top.length !== labels.length || probabilities.length !== labels.length) return 'has lists of different lengths';
  if (labels.some(label => label >= classes.length)) return 'has labels of no class';
  if (top.some((row, i) => row.length !== probabilities[i].length || row.length === 0 || row.some(o => o >= outputs)))
    return 'has outputs that the model does not have';
  const confusion = classes.map(() => new Array<number>(outputs).fill(0));
  labels.forEach((label, i) => confusion[label][top[i][0]]++);
  const perClass = classes.map((name, label) => ({
    name,
    count: confusion[label].reduce((sum, value) => sum + value, 0),
    correct: confusion[label][label],
  }));
  const count = labels.length;
  const correct = perClass.reduce((sum, each) => sum + each.correct, 0);
  const top5 = labels.filter((label, i) => top[i].includes(label)).length;
  return { count, top1: correct / count, top5: top5 / count, perClass, confusion };
}

/** The median of the epochs' speeds; null where none could be timed. */
export function medianRate(epochs: readonly EpochRow[]): number | null {
  const rates = epochs.flatMap(({ imagesPerSecond }) => imagesPerSecond ?? []);
  return rates.length > 0 ? median(rates) : null;
}

/** By epoch. */
function meanLosses(metrics: readonly MetricRow[]): Map<number, number> {
  const sums = new Map<number, { sum: number; count: number }>();
  for (const row of metrics) {
    if (row.kind !== 'step') continue;
    const { sum, count } = sums.get(row.epoch) ?? { sum: 0, count: 0 };
    sums.set(row.epoch, { sum: sum + row.loss, count: count + 1 });
  }
  return new Map([...sums].map(([epoch, { sum, count }]) => [epoch, sum / count]));
}

function brief(value: unknown): string {
  const text = printable(JSON.stringify(value) ?? 'missing');
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
