import type { VariantResult } from '../runs/trialResults';
import { SHARE_TOOLTIP, shareRow, top1Interval, top1Mean } from './intervals';
import { type Chart, colorBy, frame, MACS, million, QUIET, type VariantColors, variantColors, WIDTH } from './style';

/** One value for each choice of sample rates, the cheapest first. */
function byCost(variants: readonly VariantResult[], colors: VariantColors) {
  const ordered = [...variants].sort((a, b) => a.macs - b.macs);
  return {
    data: { values: ordered.map(({ variant, macs, top1 }) => ({ variant, macs: million(macs), ...shareRow(top1) })) },
    x: {
      field: 'variant',
      type: 'nominal',
      sort: null,
      title: 'sample rates by stage, ordered by MACs',
      axis: { labelAngle: -45 },
    },
    color: { ...colorBy('variant', colors), legend: null },
    tooltip: [
      { field: 'variant', title: 'sample rates' },
      ...SHARE_TOOLTIP,
      { field: 'macs', title: MACS, format: ',.1f' },
    ],
  } as const;
}

/** Top-1 with its 95 % interval, by sample rates. */
export function sampleRateAccuracy(
  variants: readonly VariantResult[],
  title: string,
  seen?: string,
  colors: VariantColors = variantColors(variants.map(({ variant }) => variant)),
): Chart {
  const { data, x, color, tooltip } = byCost(variants, colors);
  return {
    ...frame(title, seen),
    data,
    width: WIDTH,
    height: 240,
    encoding: { x, tooltip: [...tooltip] },
    layer: [
      {
        mark: { type: 'line', color: QUIET, strokeWidth: 1.5 },
        encoding: { y: { field: 'top1', type: 'quantitative' } },
      },
      top1Interval({ color }),
      top1Mean({ color }),
    ],
  };
}

/** MACs, by sample rates. */
export function sampleRateCost(
  variants: readonly VariantResult[],
  title: string,
  seen?: string,
  colors: VariantColors = variantColors(variants.map(({ variant }) => variant)),
): Chart {
  const { data, x, color, tooltip } = byCost(variants, colors);
  return {
    ...frame(title, seen),
    data,
    width: WIDTH,
    height: 200,
    encoding: { x, tooltip: [...tooltip], y: { field: 'macs', type: 'quantitative', title: MACS } },
    layer: [
      { mark: { type: 'line', color: QUIET, strokeWidth: 1.5 } },
      { mark: { type: 'point', filled: true, size: 70, opacity: 1 }, encoding: { color } },
    ],
  };
}
