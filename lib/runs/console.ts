import { relative } from 'node:path';
import type { EpochEvent, StepEvent } from '../train/trainer';
import { printable } from '../util/text';

/** Hears how a run goes. */
export interface Reporter {
  say(line: string): void;
  step(event: StepEvent, totals: Totals): void;
  epoch(event: EpochEvent, totals: Totals): void;
  /** Ends a live line, so that what follows stands on its own. */
  end(): void;
}

export interface Totals {
  batch: number;
  stepsPerEpoch: number;
  totalSteps: number;
  epochs: number;
}

/** A terminal, or what stands for one in a test. */
export interface Output {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** In a pipe, steps are told this often; epochs always. */
const LINE_EVERY_MS = 10_000;
/** On a terminal the bar moves at most this often. */
const FRAME_MS = 100;
const BAR = 20;

/** One dense line per epoch; between them a live bar on a terminal, and a line now and then in a pipe. */
export function consoleReporter(out: Output = process.stdout): Reporter {
  const interval = out.isTTY ? FRAME_MS : LINE_EVERY_MS;
  const speed = speedometer();
  let shown = performance.now();
  const clear = (): void => {
    if (out.isTTY) out.write('\r\x1b[K');
  };
  return {
    say(line) {
      clear();
      out.write(`${printable(line)}\n`);
    },
    step(event, totals) {
      speed.tick();
      const now = performance.now();
      if (now - shown < interval) return;
      shown = now;
      const line = `step ${event.step}/${totals.totalSteps} | loss ${event.loss.toFixed(3)} | lr ${event.learningRate.toExponential(1)}${pace(speed, event.step, totals)}`;
      if (!out.isTTY) {
        out.write(`${line}\n`);
        return;
      }
      const text = `epoch ${event.epoch}/${totals.epochs} ${bar(event.step / totals.totalSteps)} ${line}`;
      out.write(`\r\x1b[K${text.slice(0, (out.columns ?? 80) - 1)}`);
    },
    epoch(event, totals) {
      clear();
      const { evaluation, on } = event;
      const rate = event.imagesPerSecond === null ? '' : ` | ${event.imagesPerSecond.toFixed(1)} img/s`;
      out.write(
        `epoch ${event.epoch}/${totals.epochs} | loss ${event.trainLoss.toFixed(3)} train, ${decimals(evaluation.loss, 3)} ${on}` +
          ` | top-1 ${percent(event.trainTop1)} train, ${percent(evaluation.top1)} ${on}${event.best ? ' (best)' : ''}` +
          ` | lr ${event.learningRate.toExponential(1)}${rate} | eta ${duration(speed.left(event.step, totals.totalSteps))}\n`,
      );
      speed.pause();
    },
    end: clear,
  };
}

function pace(speed: Speedometer, step: number, { batch, totalSteps }: Totals): string {
  const perSecond = speed.stepsPerSecond();
  return perSecond === null
    ? ''
    : ` | ${(perSecond * batch).toFixed(1)} img/s | eta ${duration(speed.left(step, totalSteps))}`;
}

interface Speedometer {
  tick(): void;
  /** What comes before the next step is no step's time. */
  pause(): void;
  stepsPerSecond(): number | null;
  /** Seconds. */
  left(step: number, total: number): number | null;
}

/** A moving average of the time between steps. The first step, which traces the graph, has none before it and does not count. */
function speedometer(): Speedometer {
  let last: number | undefined;
  let seconds: number | null = null;
  return {
    tick() {
      const now = performance.now();
      if (last !== undefined) {
        const took = (now - last) / 1000;
        seconds = seconds === null ? took : 0.95 * seconds + 0.05 * took;
      }
      last = now;
    },
    pause() {
      last = undefined;
    },
    stepsPerSecond: () => (seconds === null ? null : 1 / seconds),
    left: (step, total) => (seconds === null ? null : (total - step) * seconds),
  };
}

/** `[=====     ]`. */
export function bar(share: number): string {
  const filled = Math.round(BAR * share);
  return `[${'='.repeat(filled)}${' '.repeat(BAR - filled)}]`;
}

/** A number with so many decimals; `not finite` for null, as JSON has it. */
export function decimals(value: number | null, digits: number): string {
  return value === null ? 'not finite' : value.toFixed(digits);
}

/** `0.8875` → `88.8 %`. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** Seconds → `1h02m`, `23m`, `4m10s`, `12s`; `?` for what is not known. */
export function duration(seconds: number | null): string {
  if (seconds === null) return '?';
  const s = Math.round(seconds);
  if (s >= 3600) return `${Math.floor(s / 3600)}h${String(Math.floor((s % 3600) / 60)).padStart(2, '0')}m`;
  if (s >= 600) return `${Math.round(s / 60)}m`;
  return s >= 60 ? `${Math.floor(s / 60)}m${String(s % 60).padStart(2, '0')}s` : `${s}s`;
}

/** A path as a person here would type it: from the current folder, unless it lies outside. */
export function here(path: string): string {
  const inside = relative(process.cwd(), path) || '.';
  return inside.startsWith('..') ? path : inside;
}
