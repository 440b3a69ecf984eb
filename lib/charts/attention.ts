import type { VariantResult } from '../runs/trialResults';
import { SHARE_TOOLTIP, shareRow, top1Interval, top1Mean } from './intervals';
import { type Chart, frame, MACS, million, OTHER, OWN, WIDTH } from './style';

/** What one kind of attention comes to at one resolution. */
export interface AttentionResult extends Pick<VariantResult, 'macs' | 'top1'> {
  attention: 'sparse' | 'full';
  /** Side of the images in pixels. */
  size: number;
}

const COLOR = {
  field: 'attention',
  type: 'nominal',
  title: null,
  scale: { domain: ['sparse', 'full'], range: [OWN, OTHER] },
  legend: { orient: 'top' },
} as const;
const X = {
  field: 'size',
  type: 'ordinal',
  title: 'side of the images (pixels)',
  axis: { labelAngle: 0 },
  scale: { padding: 0.4 },
} as const;

const valuesOf = (results: readonly AttentionResult[]) =>
  results.map(({ attention, size, macs, top1 }) => ({ attention, size, macs: million(macs), ...shareRow(top1) }));
const TOOLTIP = [
  { field: 'attention' },
  { field: 'size', title: 'pixels' },
  ...SHARE_TOOLTIP,
  { field: 'macs', title: MACS, format: ',.1f' },
] as const;

/** Top-1 with its 95 % interval by resolution, full attention beside sparse. */
export function attentionAccuracy(results: readonly AttentionResult[], title: string, seen?: string): Chart {
  return {
    ...frame(title, seen),
    data: { values: valuesOf(results) },
    width: WIDTH,
    height: 240,
    encoding: {
      x: X,
      xOffset: { field: 'attention', sort: ['sparse', 'full'], scale: { paddingOuter: 1 } },
      color: COLOR,
      tooltip: [...TOOLTIP],
    },
    layer: [top1Interval(), top1Mean()],
  };
}

/** MACs by resolution: those of full attention grow with the square of the tokens. */
export function attentionCost(results: readonly AttentionResult[], title: string, seen?: string): Chart {
  return {
    ...frame(title, seen),
    data: { values: valuesOf(results) },
    width: WIDTH,
    height: 220,
    mark: { type: 'line', point: { size: 60 }, strokeWidth: 2 },
    encoding: { x: X, y: { field: 'macs', type: 'quantitative', title: MACS }, color: COLOR, tooltip: [...TOOLTIP] },
  };
}
