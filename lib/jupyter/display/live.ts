import { randomUUID } from 'node:crypto';
import { toSvg } from '../../charts/svg';
import { escapeHtml } from '../../util/html';
import { type Bundle, chart, send, summary } from './bundle';
import { kernelOutput } from './output';

/** Live outputs change at most this often. */
const FRAME_MS = 250;

export interface Live<Row> {
  add(row: Row): void;
  /** Draws the last state in full. */
  end(): Promise<void>;
}

/** A chart of rows that grows while a cell runs: `chartOf` makes its Vega-Lite specification. Drawn anew, in place, a few times a second. */
export function liveChart<Row>(chartOf: (rows: readonly Row[]) => object): Live<Row> {
  const rows: Row[] = [];
  const output = liveOutput();
  return {
    add(row) {
      rows.push(row);
      output.soon(async () => ({ 'text/plain': summary(chartOf(rows)), 'image/svg+xml': await toSvg(chartOf(rows)) }));
    },
    end: () => output.last(() => chart(chartOf(rows))),
  };
}

export interface CurveOptions {
  /** Of the horizontal axis (default `step`). */
  x?: string;
  y?: string;
  title?: string;
  logarithmic?: boolean;
}

/** Learning curves while they grow: each row is `{ [x]: number, [name]: number, … }`, and each name a curve. */
export function liveCurve({
  x = 'step',
  y = 'loss',
  title,
  logarithmic = false,
}: CurveOptions = {}): Live<Record<string, number>> {
  return liveChart(rows => ({
    ...(title ? { title } : {}),
    width: 480,
    height: 220,
    data: {
      values: rows.flatMap(({ [x]: at, ...curves }) =>
        Object.entries(curves).map(([curve, value]) => ({ [x]: at, curve, [y]: value })),
      ),
    },
    mark: { type: 'line', point: rows.length <= 20 },
    encoding: {
      x: { field: x, type: 'quantitative' },
      y: { field: y, type: 'quantitative', scale: { type: logarithmic ? 'log' : 'linear', zero: false } },
      color: {
        field: 'curve',
        type: 'nominal',
        sort: null,
        title: null,
        legend: new Set(rows.flatMap(row => Object.keys(row))).size > 2 ? {} : null,
      },
    },
  }));
}

export interface Bar {
  to(done: number, note?: string): void;
  end(): Promise<void>;
}

/** A bar that fills in place. What it says at the end depends on what was done and not on how long it took. */
export function progressBar(total: number, label = ''): Bar {
  const output = liveOutput();
  const started = performance.now();
  const state = { done: 0, note: '' };
  const bundle = (left: string): Bundle => {
    const filled = Math.round((24 * state.done) / Math.max(1, total));
    const text = [`${state.done}/${total}`, state.note, left].filter(Boolean).join(' · ');
    return {
      'text/plain': `${label} ${'█'.repeat(filled)}${'░'.repeat(24 - filled)} ${text}`.trim(),
      'text/html': `<div>${escapeHtml(label)} <progress value="${state.done}" max="${total}"></progress> ${escapeHtml(text)}</div>`,
    };
  };
  const end = (): Promise<void> => output.last(async () => bundle(''));
  return {
    to(done, note = '') {
      Object.assign(state, { done, note });
      if (done >= total) return void end();
      output.soon(async () =>
        bundle(done > 0 ? `${Math.ceil((((performance.now() - started) / 1000) * (total - done)) / done)} s left` : ''),
      );
    },
    end,
  };
}

/** An output that changes in place: often while work continues, once more at its end. Outside a notebook only the end is told. */
function liveOutput(): { soon(make: () => Promise<Bundle>): void; last(make: () => Promise<Bundle>): Promise<void> } {
  const kernel = kernelOutput();
  const id = randomUUID();
  const placed = kernel && send({ 'text/plain': '' }, id); // now, so that what is shown later stands below
  let ended = false;
  let next: (() => Promise<Bundle>) | undefined;
  let drawing: Promise<void> | undefined;
  const draw = async (): Promise<void> => {
    await placed;
    for (let make = next; make; make = next) {
      next = undefined;
      const bundle = await make();
      if (kernel) kernel.display(bundle, { id, update: true });
      else console.log(bundle['text/plain']);
      if (!ended) await new Promise(resolve => setTimeout(resolve, FRAME_MS));
    }
    drawing = undefined;
  };
  const start = (make: () => Promise<Bundle>): Promise<void> => {
    next = make;
    drawing ??= draw();
    kernel?.settle(drawing);
    return drawing;
  };
  return {
    soon(make) {
      if (kernel && !ended) void start(make);
    },
    last(make) {
      ended = true;
      return start(make);
    },
  };
}
