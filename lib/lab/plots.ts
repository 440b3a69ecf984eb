import type { TopLevelSpec } from 'vega-lite';
import type { Evaluation } from '../train/metrics';
import type { EpochRow } from './runs';

/** Charts are data: rows go in, a Vega-Lite specification comes out, and `toSvg` (svg.ts) draws it without a browser. */

/** Version 5 of the schema, because JupyterLab draws that one; Vega-Lite 6 takes both. */
const SCHEMA = 'https://vega.github.io/schema/vega-lite/v5.json';
const CONFIG = { font: 'system-ui, sans-serif', view: { stroke: null }, axis: { grid: true, gridOpacity: 0.4 } } as const;
/** Told apart by colour-blind readers too. */
const COLOURS = ['#0072b2', '#d55e00'];

/** Loss and top-1 by epoch, of training batches and of the pictures that each epoch ends with. */
export function learningCurve(rows: readonly EpochRow[], title: string): TopLevelSpec {
  const values = rows.flatMap(row => [
    { epoch: row.epoch, pictures: 'train', loss: row.trainLoss, top1: row.trainTop1 },
    { epoch: row.epoch, pictures: row.on, loss: row.evalLoss, top1: row.evalTop1 },
  ]);
  const panel = (field: 'loss' | 'top1', label: string, format: string) => ({
    width: 320,
    height: 220,
    mark: { type: 'line' as const, point: rows.length <= 20, interpolate: 'linear' as const },
    encoding: {
      x: { field: 'epoch', type: 'quantitative' as const, title: 'epoch', axis: { tickMinStep: 1, format: 'd' } },
      y: { field, type: 'quantitative' as const, title: label, axis: { format } },
      color: { field: 'pictures', type: 'nominal' as const, scale: { domain: ['train', rows[0]?.on ?? 'test'], range: COLOURS }, legend: { title: null, orient: 'top' as const } },
    },
  });
  return {
    $schema: SCHEMA,
    title,
    config: CONFIG,
    data: { values },
    hconcat: [panel('loss', 'cross-entropy', '.2~f'), panel('top1', 'top-1 accuracy', '.0%')],
  };
}

/** Accuracy of each class, the worst last. */
export function perClassAccuracy({ perClass }: Evaluation): TopLevelSpec {
  const values = perClass.filter(({ count }) => count > 0).map(({ name, count, correct }) => ({ class: name, accuracy: correct / count, label: `${correct} of ${count}` }))
    .sort((a, b) => b.accuracy - a.accuracy);
  return {
    $schema: SCHEMA,
    title: 'Accuracy by class',
    config: CONFIG,
    data: { values },
    width: 320,
    height: { step: 18 },
    encoding: { y: { field: 'class', type: 'nominal', sort: null, title: null } },
    layer: [
      { mark: { type: 'bar', color: COLOURS[0] }, encoding: { x: { field: 'accuracy', type: 'quantitative', title: 'top-1 accuracy', scale: { domain: [0, 1] }, axis: { format: '.0%' } } } },
      { mark: { type: 'text', align: 'left', dx: 4, fontSize: 10, fill: 'currentColor' }, encoding: { x: { field: 'accuracy', type: 'quantitative' }, text: { field: 'label' } } },
    ],
  };
}

/** Up to so many classes, the cells of a confusion matrix are large enough for their number. */
const NUMBERED_CLASSES = 20;

/** Which classes are taken for which. Empty cells are left out: a hundred classes have ten thousand. */
export function confusionMatrix({ confusion, perClass }: Evaluation): TopLevelSpec {
  const classes = perClass.map(entry => entry.name);
  const nameOf = (output: number): string => classes[output] ?? `output ${output}`;
  const values = confusion.flatMap((row, label) => row.map((count, predicted) => ({ label: classes[label], predicted: nameOf(predicted), count, share: count / Math.max(1, perClass[label].count) })))
    .filter(({ count }) => count > 0);
  const few = classes.length <= NUMBERED_CLASSES;
  const cell = few ? 28 : 8;
  const axis = { labelFontSize: few ? 10 : 6, labelOverlap: false, grid: false } as const;
  const used = confusion[0].map((_, output) => nameOf(output)).filter((name, output) => output < classes.length || values.some(({ predicted }) => predicted === name));
  return {
    $schema: SCHEMA,
    title: 'Confusion matrix',
    config: CONFIG,
    data: { values },
    width: { step: cell },
    height: { step: cell },
    encoding: {
      x: { field: 'predicted', type: 'nominal', sort: null, scale: { domain: used }, title: 'predicted class', axis: { ...axis, labelAngle: -45 } },
      y: { field: 'label', type: 'nominal', sort: null, scale: { domain: classes }, title: 'class', axis },
    },
    layer: [
      { mark: 'rect', encoding: { color: { field: 'share', type: 'quantitative', scale: { scheme: 'blues', domain: [0, 1] }, legend: { title: 'share of class', format: '.0%' } } } },
      ...(few ? [{
        mark: { type: 'text' as const, fontSize: 10 },
        encoding: { text: { field: 'count' }, color: { condition: { test: 'datum.share > 0.5', value: 'white' }, value: 'black' } },
      }] : []),
    ],
  };
}
