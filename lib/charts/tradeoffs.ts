import type { Estimate } from '../measure/latency';
import type { ReportedModel } from '../measure/reported';
import type { MeanInterval } from '../measure/statistics';
import { SHARE_TOOLTIP, shareRow, top1Interval } from './intervals';
import {
  type Chart,
  colorBy,
  frame,
  type Layer,
  MACS,
  million,
  OTHER,
  OWN,
  QUIET,
  rounded,
  type VariantColors,
  variantColors,
  WIDTH,
} from './style';

/** A network of ours: what it reached and what it costs. */
export interface Point {
  model: string;
  top1: MeanInterval;
  params: number;
  /** Per image. */
  macs: number;
  /** Of one image. */
  milliseconds?: Estimate;
}

const [FRONT, BEATEN] = ['on the Pareto front', 'beaten by another'];
const [EDGEVIT, OTHERS] = ['EdgeViT, reported', 'others, reported'];
const [COUNTED, REPORTED] = ['counted here', 'reported'];

/** Of the axis beyond the intervals, in fractions. */
const MARGIN = 0.03;

const COSTS = {
  macs: MACS,
  params: 'parameters (millions)',
  milliseconds: 'time of one image (ms)',
  phoneMs: 'time on a phone (ms)',
} as const;

/**
 * Those that no other beats: none is at least as good for no more, and better or cheaper. From the cheapest on; equal ones are all
 * among them.
 */
export function paretoFront<T>(all: readonly T[], cost: (entry: T) => number, gain: (entry: T) => number): T[] {
  const beats = (a: T, b: T): boolean =>
    cost(a) <= cost(b) && gain(a) >= gain(b) && (cost(a) < cost(b) || gain(a) > gain(b));
  return all.filter(entry => !all.some(other => beats(other, entry))).sort((a, b) => cost(a) - cost(b));
}

/** What is named in a chart of accuracy against `x`. */
interface Named {
  model: string;
  top1: number;
  x: number;
}

/** Where a name stands beside its mark. */
interface Place {
  align: 'left' | 'right';
  dy: number;
}

const PLACES: readonly Place[] = [
  { align: 'left', dy: 9 },
  { align: 'right', dy: -8 },
  { align: 'left', dy: -8 },
  { align: 'right', dy: 9 },
];
const HEIGHT = 300;
const [LETTER, LINE, MARK] = [6, 12, 10]; // pixels

/** For each name the place that covers least: the marks of others, names that stand already, the frame. */
function places(all: readonly Named[]): Place[] {
  const [xs, ys] = [all.map(({ x }) => x), all.map(({ top1 }) => top1)].map(values => {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return values.map(value => (value - least) / (most - least || 1));
  });
  const at = all.map((_, i) => ({ x: 0.05 * WIDTH + 0.9 * WIDTH * xs[i], y: HEIGHT * (0.8 - 0.6 * ys[i]) }));
  const box = (i: number, { align, dy }: Place) => {
    const width = LETTER * all[i].model.length;
    return { x: at[i].x + (align === 'left' ? 8 + width / 2 : -8 - width / 2), y: at[i].y + dy, width, height: LINE };
  };
  const marks = at.map(({ x, y }) => ({ x, y, width: MARK, height: MARK }));
  const standing: ReturnType<typeof box>[] = [];
  return all.map((_, i) => {
    const cost = (place: Place): number => {
      const own = box(i, place);
      const covered = [...standing, ...marks.filter((__, j) => j !== i)].filter(
        other =>
          Math.abs(other.x - own.x) < (other.width + own.width) / 2 &&
          Math.abs(other.y - own.y) < (other.height + own.height) / 2,
      );
      return covered.length + (Math.abs(own.x - WIDTH / 2) + own.width / 2 > WIDTH / 2 ? 2 : 0);
    };
    const best = PLACES.reduce((least, place) => (cost(place) < cost(least) ? place : least));
    standing.push(box(i, best));
    return best;
  });
}

/** Names beside marks. */
function labels(all: readonly Named[], x: string): Layer {
  const placed = places(all);
  return {
    data: { values: all.map(({ model, top1, x: value }, i) => ({ model, top1, [x]: value, ...placed[i] })) },
    mark: {
      type: 'text',
      align: { expr: 'datum.align' },
      dx: { expr: "datum.align === 'left' ? 8 : -8" },
      dy: { expr: 'datum.dy' },
    },
    encoding: {
      x: { field: x, type: 'quantitative' },
      y: { field: 'top1', type: 'quantitative' },
      text: { field: 'model' },
      tooltip: { value: null },
    },
  };
}

/**
 * Accuracy against one cost, with 95 % intervals. The line is the Pareto front: what it passes below is beaten by one of its
 * networks. Points without the cost are left out.
 */
export function tradeoff(
  all: readonly Point[],
  cost: 'macs' | 'params' | 'milliseconds',
  title: string,
  seen?: string,
  colors: VariantColors = variantColors(all.map(({ model }) => model)),
): Chart {
  const values = all
    .filter(({ milliseconds }) => cost !== 'milliseconds' || milliseconds)
    .map(({ model, top1, params, macs, milliseconds }) => ({
      model,
      ...shareRow(top1),
      params: million(params),
      macs: million(macs),
      ...(milliseconds && { milliseconds: milliseconds.value, fastest: milliseconds.low, slowest: milliseconds.high }),
    }));
  const front = paretoFront(
    values,
    row => row[cost]!,
    row => row.top1,
  );
  const rows = values.map(row => ({ ...row, front: front.includes(row) ? FRONT : BEATEN }));
  const domain = [
    Math.max(0, Math.min(...rows.map(({ low }) => low)) - MARGIN),
    Math.min(1, Math.max(...rows.map(({ high }) => high)) + MARGIN),
  ].map(share => rounded(share));
  const x = { field: cost, type: 'quantitative', title: COSTS[cost], scale: { zero: false, padding: 16 } } as const;
  const color = { ...colorBy('model', colors), legend: null };
  const shape = {
    field: 'front',
    type: 'nominal',
    title: null,
    scale: { domain: [FRONT, BEATEN], range: ['circle', 'triangle-down'] },
    legend: { orient: 'top', symbolFillColor: QUIET, symbolStrokeColor: QUIET },
  } as const;
  const tooltip = [
    { field: 'model' },
    ...SHARE_TOOLTIP,
    { field: 'params', title: 'parameters (millions)', format: '.2f' },
    { field: 'macs', title: 'MACs (millions)', format: ',.0f' },
    ...(cost === 'milliseconds'
      ? [
          { field: 'milliseconds', format: '.1f' },
          { field: 'fastest', title: '95 % from (ms)', format: '.1f' },
          { field: 'slowest', title: 'to (ms)', format: '.1f' },
        ]
      : []),
  ];
  return {
    ...frame(title, seen),
    data: { values: rows },
    width: WIDTH,
    height: HEIGHT,
    encoding: { tooltip },
    layer: [
      {
        transform: [{ filter: `datum.front === '${FRONT}'` }],
        mark: { type: 'line', interpolate: 'step-after', strokeDash: [4, 4], strokeWidth: 1.5, color: QUIET },
        encoding: { x, y: { field: 'top1', type: 'quantitative' }, tooltip: { value: null } },
      },
      top1Interval({ x, color }, { domain, nice: false, zero: false }),
      ...(cost === 'milliseconds'
        ? [
            {
              mark: { type: 'rule' as const, strokeWidth: 2 },
              encoding: {
                color,
                x: { ...x, field: 'fastest' },
                x2: { field: 'slowest' },
                y: { field: 'top1', type: 'quantitative' as const },
              },
            },
          ]
        : []),
      {
        mark: { type: 'point', filled: true, size: 90, opacity: 1 },
        encoding: { x, color, shape, y: { field: 'top1', type: 'quantitative' } },
      },
      labels(
        rows.map(row => ({ ...row, x: row[cost]! })),
        cost,
      ),
    ],
  };
}

/** What others reported, all of it on ImageNet: hollow marks, for none of it was measured here. */
export function reportedTradeoff(
  reported: readonly ReportedModel[],
  cost: 'macs' | 'params' | 'phoneMs',
  title: string,
  seen?: string,
): Chart {
  const known = reported.filter(row => row.top1 !== undefined && row[cost] !== undefined);
  const values = known.map(({ model, top1, source, [cost]: price }) => ({
    model,
    top1,
    source,
    cost: cost === 'phoneMs' ? price! : million(price!),
    who: model.startsWith('EdgeViT') ? EDGEVIT : OTHERS,
  }));
  const scale = { domain: [EDGEVIT, OTHERS] };
  return {
    ...frame(title, seen),
    data: { values },
    width: WIDTH,
    height: 280,
    encoding: {
      x: { field: 'cost', type: 'quantitative', title: COSTS[cost], scale: { zero: false, padding: 12 } },
      y: {
        field: 'top1',
        type: 'quantitative',
        title: 'top-1 on ImageNet, reported',
        scale: { zero: false, padding: 12 },
        axis: { format: '.0%' },
      },
      tooltip: [
        { field: 'model' },
        { field: 'top1', title: 'top-1', format: '.1%' },
        { field: 'cost', title: COSTS[cost], format: ',.1f' },
        { field: 'source', title: 'reported by' },
      ],
    },
    layer: [
      {
        mark: { type: 'point', filled: false, size: 80, strokeWidth: 2, opacity: 1 },
        encoding: {
          color: {
            field: 'who',
            type: 'nominal',
            title: null,
            scale: { ...scale, range: [OTHER, QUIET] },
            legend: { orient: 'top' },
          },
          shape: { field: 'who', type: 'nominal', title: null, scale: { ...scale, range: ['circle', 'square'] } },
        },
      },
      labels(
        values.filter(({ who }) => who === EDGEVIT).map(row => ({ ...row, top1: row.top1!, x: row.cost })),
        'cost',
      ),
    ],
  };
}

/** What was counted here, filled, beside what was reported of the same network, hollow. */
export function countedAndReported(
  counted: readonly { model: string; params: number; macs: number }[],
  reported: readonly ReportedModel[],
  cost: 'macs' | 'params',
  title: string,
  seen?: string,
): Chart {
  const values = counted.flatMap(({ model, [cost]: own }) => {
    const theirs = reported.filter(({ ours, [cost]: said }) => ours === model && said !== undefined);
    return theirs.length === 0
      ? []
      : [
          { model, who: COUNTED, value: million(own), source: 'this lab' },
          ...theirs.map(({ source, [cost]: said }) => ({ model, who: REPORTED, value: million(said!), source })),
        ];
  });
  const domain = [COUNTED, REPORTED];
  return {
    ...frame(title, seen),
    data: { values },
    width: WIDTH,
    height: { step: 30 },
    mark: { type: 'point', size: 90, strokeWidth: 2, opacity: 1 },
    encoding: {
      y: {
        field: 'model',
        type: 'nominal',
        sort: null,
        title: null,
        axis: { ticks: false, domain: false, grid: true },
      },
      x: { field: 'value', type: 'quantitative', title: COSTS[cost] },
      stroke: {
        field: 'who',
        type: 'nominal',
        title: null,
        scale: { domain, range: [OWN, OTHER] },
        legend: { orient: 'top' },
      },
      fill: { field: 'who', type: 'nominal', title: null, scale: { domain, range: [OWN, 'transparent'] } },
      tooltip: [
        { field: 'model' },
        { field: 'who' },
        { field: 'value', title: COSTS[cost], format: ',.2f' },
        { field: 'source' },
      ],
    },
  };
}
