import type { MeanInterval } from '../measure/statistics';
import { isClear, type VariantResult } from '../runs/trialResults';
import {
  type Chart,
  colorBy,
  frame,
  INK,
  type Layer,
  points,
  QUIET,
  rounded,
  type VariantColors,
  variantColors,
  WIDTH,
} from './style';

/** The ends of an interval; those of a single run are where it is. */
export function ends({ mean, half }: MeanInterval): { low: number; high: number } {
  return { low: mean - (half ?? 0), high: mean + (half ?? 0) };
}

/** An interval of fractions as a chart's row, inside [0, 1]. */
export function shareRow(top1: MeanInterval): { top1: number; low: number; high: number; seeds: number } {
  const { low, high } = ends(top1);
  return {
    top1: rounded(top1.mean),
    low: rounded(Math.max(0, low)),
    high: rounded(Math.min(1, high)),
    seeds: top1.count,
  };
}

export const SHARE_TOOLTIP = [
  { field: 'top1', title: 'top-1', format: '.1%' },
  { field: 'low', title: '95 % from', format: '.1%' },
  { field: 'high', title: 'to', format: '.1%' },
  { field: 'seeds' },
] as const;

/** On a chart of top-1 over something: the mean's 95 % interval as a line. */
export const top1Interval = (encoding: object = {}, scale: object = { zero: false }): Layer =>
  ({
    mark: { type: 'rule', strokeWidth: 2 },
    encoding: {
      ...encoding,
      y: { field: 'low', type: 'quantitative', title: 'top-1 on test images', scale, axis: { format: '.0%' } },
      y2: { field: 'high' },
    },
  }) as Layer;

/** And the mean as a dot. */
export const top1Mean = (encoding: object = {}): Layer =>
  ({
    mark: { type: 'point', filled: true, size: 70, opacity: 1 },
    encoding: { ...encoding, y: { field: 'top1', type: 'quantitative' } },
  }) as Layer;

const name = { type: 'nominal', title: null, axis: { ticks: false, domain: false, labelLimit: 240 } } as const;

/** Top-1 of each variant: a line for the mean's 95 % interval, a dot for the mean, a tick for each run. */
export function accuracies(
  variants: readonly VariantResult[],
  title: string,
  seen?: string,
  colors: VariantColors = variantColors(variants.map(({ variant }) => variant)),
): Chart {
  const order = [...variants].sort((a, b) => b.top1.mean - a.top1.mean).map(({ variant }) => variant);
  const color = { ...colorBy('variant', colors), legend: null };
  return {
    ...frame(title, seen),
    width: WIDTH,
    height: { step: 24 },
    encoding: { y: { field: 'variant', sort: order, ...name } },
    layer: [
      {
        data: { values: variants.map(({ variant, top1 }) => ({ variant, ...shareRow(top1) })) },
        encoding: { color, tooltip: [{ field: 'variant' }, ...SHARE_TOOLTIP] },
        layer: [
          {
            mark: { type: 'rule', strokeWidth: 2 },
            encoding: {
              x: {
                field: 'low',
                type: 'quantitative',
                title: 'top-1 on test images',
                scale: { zero: false },
                axis: { format: '.0%' },
              },
              x2: { field: 'high' },
            },
          },
          {
            mark: { type: 'point', filled: true, size: 70, opacity: 1 },
            encoding: { x: { field: 'top1', type: 'quantitative' } },
          },
        ],
      },
      {
        data: {
          values: variants.flatMap(({ variant, runs }) =>
            runs.map(({ seed, top1 }) => ({ variant, seed, top1: rounded(top1) })),
          ),
        },
        mark: { type: 'tick', thickness: 1.5, size: 12, color: INK, opacity: 0.7 },
        encoding: {
          x: { field: 'top1', type: 'quantitative' },
          tooltip: [{ field: 'variant' }, { field: 'seed' }, { field: 'top1', title: 'top-1', format: '.1%' }],
        },
      },
    ],
  };
}

/** Opacity of what chance may have made. */
const FAINT = 0.4;

/** What is known of a difference between two variants. */
export interface Difference {
  variant: string;
  /** In fractions. */
  difference: MeanInterval;
}

/** Mean differences, seed by seed, from a baseline as bars, with their 95 % intervals: those that include 0, and those of a single seed, are faint. */
export function differences(
  all: readonly Difference[],
  baseline: string,
  title: string,
  seen?: string,
  colors: VariantColors = variantColors(all.map(({ variant }) => variant)),
): Chart {
  const [CLEAR, NOISE, SINGLE] = ['CI excludes 0', 'CI includes 0', 'single seed, no CI'];
  const isSingle = ({ difference }: Difference): boolean => difference.half === null;
  const values = all.map(each => {
    const { variant, difference } = each;
    const { low, high } = ends(difference);
    return {
      variant,
      mean: points(difference.mean),
      low: points(low),
      high: points(high),
      seeds: difference.count,
      verdict: isSingle(each) ? SINGLE : isClear(difference) ? CLEAR : NOISE,
    };
  });
  const signed = (field: string, title: string) => ({ field, title, format: '+.1f' });
  return {
    ...frame(title, seen),
    data: { values },
    width: WIDTH,
    height: { step: 26 },
    encoding: {
      y: { field: 'variant', sort: null, ...name },
      tooltip: [
        { field: 'variant' },
        signed('mean', 'points'),
        ...(all.every(isSingle) ? [] : [signed('low', '95 % from'), signed('high', 'to')]),
        { field: 'seeds' },
        { field: 'verdict' },
      ],
    },
    layer: [
      {
        mark: { type: 'bar', height: 14 },
        encoding: {
          x: {
            field: 'mean',
            type: 'quantitative',
            title: `top-1 less that of ${baseline}, same seed (points)`,
            axis: { labelExpr: "datum.value > 0 ? '+' + datum.label : datum.label" },
          },
          color: { ...colorBy('variant', colors), legend: null },
          opacity: {
            field: 'verdict',
            type: 'ordinal', // which opacity wants
            title: null,
            scale: all.some(isSingle)
              ? { domain: [CLEAR, NOISE, SINGLE], range: [1, FAINT, FAINT] }
              : { domain: [CLEAR, NOISE], range: [1, FAINT] },
            legend: { orient: 'top', symbolFillColor: QUIET, symbolStrokeColor: QUIET },
          },
        },
      },
      {
        mark: { type: 'rule', strokeWidth: 2, color: INK },
        encoding: { x: { field: 'low', type: 'quantitative' }, x2: { field: 'high' } },
      },
      ...(['low', 'high'] as const).map(field => ({
        mark: { type: 'tick' as const, thickness: 2, size: 8, color: INK, opacity: 1 },
        encoding: { x: { field, type: 'quantitative' as const } },
      })),
      {
        data: { values: [{ zero: 0 }] },
        mark: { type: 'rule', color: INK },
        encoding: {
          x: { field: 'zero', type: 'quantitative' },
          y: { value: 0 },
          y2: { value: 'height' },
          tooltip: { value: null },
        },
      },
    ],
  };
}
