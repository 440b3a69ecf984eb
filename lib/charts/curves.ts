import { meanInterval } from '../measure/statistics';
import type { EpochRow } from '../runs/metrics';
import type { VariantResult } from '../runs/trialResults';
import {
  type Chart,
  colorBy,
  frame,
  OTHER,
  OWN,
  rounded,
  shortLabels,
  type VariantColors,
  variantColors,
  WIDTH,
} from './style';

const EPOCH = { field: 'epoch', type: 'quantitative', title: 'epoch', axis: { tickMinStep: 1, format: 'd' } } as const;
/** A name in the legend, when clicked, stands out. */
const PICK = { name: 'picked', bind: 'legend' } as const;
const FAINT = { condition: { param: 'picked', value: 1 }, value: 0.15 };

/** Up to so many epochs, each is a dot. */
const DOTTED_EPOCHS = 20;

/** For a curve of one epoch, whose line would be none. */
const dots = (curves: readonly (readonly unknown[])[]): { point?: true } =>
  curves.some(({ length }) => length === 1) ? { point: true } : {};

/** Loss and top-1 by epoch, of training batches and of the images that each epoch ends with, side by side. */
export function learningCurve(rows: readonly EpochRow[], title: string): Chart {
  const values = rows.flatMap(row => [
    { epoch: row.epoch, pictures: 'train', loss: row.trainLoss, top1: row.trainTop1 },
    { epoch: row.epoch, pictures: row.on, loss: row.evalLoss, top1: row.evalTop1 },
  ]);
  const panel = (field: 'loss' | 'top1', label: string, format: string) => ({
    width: 320,
    height: 220,
    mark: { type: 'line' as const, point: rows.length <= DOTTED_EPOCHS },
    encoding: {
      x: EPOCH,
      y: { field, type: 'quantitative' as const, title: label, axis: { format } },
      color: {
        field: 'pictures',
        type: 'nominal' as const,
        title: null,
        scale: { domain: ['train', rows[0]?.on ?? 'test'], range: [OWN, OTHER] },
        legend: { orient: 'top' as const },
      },
    },
  });
  return {
    ...frame(title),
    data: { values },
    hconcat: [panel('loss', 'cross-entropy', '.2~f'), panel('top1', 'top-1 accuracy', '.0%')],
  };
}

/** What a panel of learning curves shows. */
const MEASURES = {
  top1: { label: 'top-1 accuracy', format: '.0%', of: ({ trainTop1, evalTop1 }: EpochRow) => [trainTop1, evalTop1] },
  loss: { label: 'cross-entropy', format: '.2~f', of: ({ trainLoss, evalLoss }: EpochRow) => [trainLoss, evalLoss] },
} as const;

/** Runs by epoch, one colour each: evaluation solid, training dashed. */
export function runCurves(
  runs: readonly { name: string; epochs: readonly EpochRow[] }[],
  measure: keyof typeof MEASURES,
  title: string,
): Chart {
  const { label, format, of } = MEASURES[measure];
  const values = runs.flatMap(({ name, epochs }) =>
    epochs.flatMap(row =>
      ['training', 'evaluation'].flatMap((pictures, i) => {
        const value = of(row)[i];
        return value === null ? [] : [{ run: name, epoch: row.epoch, pictures, value: rounded(value) }];
      }),
    ),
  );
  return {
    ...frame(title),
    data: { values },
    width: WIDTH,
    height: 240,
    params: [{ ...PICK, select: { type: 'point', fields: ['run'] } }],
    mark: { type: 'line', strokeWidth: 2, ...dots(runs.map(({ epochs }) => epochs)) },
    encoding: {
      x: EPOCH,
      y: { field: 'value', type: 'quantitative', title: label, axis: { format } },
      color: {
        field: 'run',
        type: 'nominal',
        title: null,
        sort: null,
        legend: {
          orient: 'bottom',
          columns: 1,
          ...shortLabels(
            runs.map(({ name }) => name),
            42,
          ),
        },
      },
      strokeDash: {
        field: 'pictures',
        type: 'nominal',
        title: null,
        scale: {
          domain: ['evaluation', 'training'],
          range: [
            [1, 0],
            [4, 3],
          ],
        },
        legend: { orient: 'top' },
      },
      opacity: FAINT,
      tooltip: [
        { field: 'run' },
        { field: 'epoch' },
        { field: 'pictures' },
        { field: 'value', title: label, format: measure === 'top1' ? '.1%' : '.3f' },
      ],
    },
  };
}

/** Of curves of one colour, by which they are told apart. */
const DASHES = [
  [1, 0],
  [6, 3],
  [2, 2],
  [8, 3, 2, 3],
];

/** Top-1 after each epoch, the mean over each variant's seeds: where curves still rise, a longer run may order them otherwise. */
export function variantCurves(
  variants: readonly VariantResult[],
  title: string,
  seen?: string,
  colors: VariantColors = variantColors(variants.map(({ variant }) => variant)),
): Chart {
  const all = Object.values(colors);
  const dashes = all.map((color, i) => DASHES[all.slice(0, i).filter(other => other === color).length % DASHES.length]);
  const values = variants.flatMap(({ variant, runs }) =>
    runs[0].curve.map((_, epoch) => ({
      variant,
      epoch: epoch + 1,
      top1: rounded(meanInterval(runs.map(({ curve }) => curve[epoch])).mean),
      seeds: runs.length,
    })),
  );
  return {
    ...frame(title, seen),
    data: { values },
    width: WIDTH,
    height: 240,
    params: [{ ...PICK, select: { type: 'point', fields: ['variant'] } }],
    mark: { type: 'line', strokeWidth: 2, ...dots(variants.map(({ runs }) => runs[0].curve)) },
    encoding: {
      x: EPOCH,
      y: { field: 'top1', type: 'quantitative', title: 'top-1', axis: { format: '.0%' }, scale: { zero: false } },
      color: { ...colorBy('variant', colors), legend: { orient: 'bottom', columns: 3 } },
      ...(new Set(all).size < all.length && {
        strokeDash: {
          field: 'variant',
          type: 'nominal',
          title: null,
          scale: { domain: Object.keys(colors), range: dashes },
        },
      }),
      opacity: FAINT,
      tooltip: [
        { field: 'variant' },
        { field: 'epoch' },
        { field: 'top1', title: 'top-1', format: '.1%' },
        { field: 'seeds' },
      ],
    },
  };
}
