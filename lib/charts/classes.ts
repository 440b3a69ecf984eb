import type { Evaluation } from '../train/metrics';
import { type Chart, frame, OWN, rounded, shortLabels, WIDTH } from './style';

/** Pixels of a class's name beside a bar or a row, and as many letters as fit where a chart is drawn without a browser, which takes all for wide. */
const LABEL_LIMIT = 160;
const LABEL_LETTERS = 18;

/** Accuracy of each class, the worst last. */
export function perClassAccuracy({ perClass }: Evaluation, title = 'Accuracy by class'): Chart {
  const values = perClass
    .filter(({ count }) => count > 0)
    .map(({ name, count, correct }) => ({
      class: name,
      accuracy: rounded(correct / count),
      label: `${correct} of ${count}`,
      inside: correct / count > 0.5,
    }))
    .sort((a, b) => b.accuracy - a.accuracy);
  const text = (inside: boolean) => ({
    transform: [{ filter: inside ? 'datum.inside' : '!datum.inside' }],
    mark: {
      type: 'text' as const,
      align: inside ? ('right' as const) : ('left' as const),
      dx: inside ? -4 : 4,
      fontSize: 10,
      ...(inside && { fill: 'white' }),
    },
    encoding: { x: { field: 'accuracy', type: 'quantitative' as const }, text: { field: 'label' } },
  });
  return {
    ...frame(title),
    data: { values },
    width: WIDTH,
    height: { step: 18 },
    encoding: {
      y: {
        field: 'class',
        type: 'nominal',
        sort: null,
        title: null,
        axis: {
          ticks: false,
          domain: false,
          labelLimit: LABEL_LIMIT,
          ...shortLabels(
            values.map(row => row.class),
            LABEL_LETTERS,
          ),
        },
      },
      tooltip: [
        { field: 'class' },
        { field: 'accuracy', title: 'top-1', format: '.1%' },
        { field: 'label', title: 'right' },
      ],
    },
    layer: [
      {
        mark: { type: 'bar', color: OWN },
        encoding: {
          x: {
            field: 'accuracy',
            type: 'quantitative',
            title: 'top-1 accuracy',
            scale: { domain: [0, 1] },
            axis: { format: '.0%' },
          },
        },
      },
      text(true),
      text(false),
    ],
  };
}

/** Up to so many classes, the cells of a confusion matrix are large enough for their number. */
const NUMBERED_CLASSES = 20;

/** Which classes are taken for which. Empty cells are left out: a hundred classes have ten thousand. */
export function confusionMatrix({ confusion, perClass }: Evaluation, title = 'Confusion matrix'): Chart {
  const classes = perClass.map(entry => entry.name);
  const nameOf = (output: number): string => classes[output] ?? `output ${output}`;
  const values = confusion
    .flatMap((row, label) =>
      row.map((count, predicted) => ({
        label: classes[label],
        predicted: nameOf(predicted),
        count,
        share: rounded(count / Math.max(1, perClass[label].count)),
      })),
    )
    .filter(({ count }) => count > 0);
  const few = classes.length <= NUMBERED_CLASSES;
  const cell = few ? 28 : 11;
  const axis = {
    labelFontSize: few ? 10 : 9,
    labelOverlap: false,
    labelLimit: LABEL_LIMIT,
    ...shortLabels(classes, LABEL_LETTERS),
    grid: false,
  } as const;
  const used = confusion[0]
    .map((_, output) => nameOf(output))
    .filter((name, output) => output < classes.length || values.some(({ predicted }) => predicted === name));
  return {
    ...frame(title),
    data: { values },
    width: { step: cell },
    height: { step: cell },
    encoding: {
      x: {
        field: 'predicted',
        type: 'nominal',
        sort: null,
        scale: { domain: used },
        title: 'predicted class',
        axis: { ...axis, labelAngle: -45 },
      },
      y: { field: 'label', type: 'nominal', sort: null, scale: { domain: classes }, title: 'class', axis },
      tooltip: [
        { field: 'label', title: 'class' },
        { field: 'predicted' },
        { field: 'count', title: 'images' },
        { field: 'share', title: 'of the class', format: '.1%' },
      ],
    },
    layer: [
      {
        mark: 'rect',
        encoding: {
          color: {
            field: 'share',
            type: 'quantitative',
            scale: { scheme: 'blues', domain: [0, 1] },
            legend: { title: 'fraction of class', format: '.0%', orient: 'top' },
          },
        },
      },
      ...(few
        ? [
            {
              mark: { type: 'text' as const, fontSize: 10 },
              encoding: {
                text: { field: 'count' },
                fill: { condition: { test: 'datum.share > 0.5', value: 'white' }, value: 'black' },
              },
            },
          ]
        : []),
    ],
  };
}
