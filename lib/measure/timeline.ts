import type { KernelTiming } from '../engine/binding';

/** What all kernels of one op type took together; microseconds. */
export interface OpTotal {
  op: string;
  count: number;
  total: number;
}

/** TensorFlow's label of a kernel's run is `node = Op(inputs)`, after the memory that it took, if any. */
function opOf({ label }: KernelTiming): string {
  return / = (\w+)\(/.exec(label)?.[1] ?? label;
}

/** Totals by op type, longest first. Kernels run side by side, so they add up to more than the time that passed. */
export function totalsByOp(timings: readonly KernelTiming[]): OpTotal[] {
  const totals = new Map<string, OpTotal>();
  for (const timing of timings) {
    const op = opOf(timing);
    const entry = totals.get(op) ?? { op, count: 0, total: 0 };
    totals.set(op, { op, count: entry.count + 1, total: entry.total + timing.duration });
  }
  return [...totals.values()].sort((a, b) => b.total - a.total);
}

/** Microseconds from the start of the first kernel to the end of the last. */
export function wallTime(timings: readonly KernelTiming[]): number {
  return (
    timings.reduce((end, { start, duration }) => Math.max(end, start + duration), 0) -
    timings.reduce((first, { start }) => Math.min(first, start), Infinity)
  );
}

/**
 * The run in Chrome's trace event format, for chrome://tracing or ui.perfetto.dev. TensorFlow doesn't say which thread ran a
 * kernel on the CPU, so each goes to the first lane that is free, as TensorFlow's own timelines do it.
 */
export function chromeTrace(timings: readonly KernelTiming[]): string {
  const busyUntil: number[] = [];
  const traceEvents = [...timings]
    .sort((a, b) => a.start - b.start)
    .map(timing => {
      const { node, start, duration } = timing;
      const free = busyUntil.findIndex(until => until <= start);
      const lane = free < 0 ? busyUntil.length : free;
      busyUntil[lane] = start + duration;
      return { name: opOf(timing), ph: 'X', ts: start, dur: duration, pid: 0, tid: lane, args: { node } };
    });
  return JSON.stringify({ traceEvents, displayTimeUnit: 'ms' });
}
