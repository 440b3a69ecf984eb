import { printable } from '../util/text';
import { bar, decimals, duration, type Output, percent } from './console';
import { type SweepPlan, type SweepTrial, stepsDone } from './sweep';

/** On a terminal the live lines are drawn this often; in a pipe a line tells of the progress this often. */
const FRAME_MS = 500;
const LINE_EVERY_MS = 60_000;

/** Shows a sweep: a line for each trial that ends, and below them live lines of those under way on a terminal, or a line now and then in a pipe. */
export interface SweepDisplay {
  trial(trial: SweepTrial): void;
  /** Ends the live lines. */
  end(): void;
}

export function sweepDisplay(plan: SweepPlan, jobs: number | undefined, out: Output = process.stdout): SweepDisplay {
  const width = Math.max(...plan.trials.map(({ variant }) => variant.length));
  const title = ({ variant, seed }: SweepTrial): string => `${variant.padEnd(width)} seed ${seed}`;
  let live = 0;
  const clear = (): void => {
    if (live > 0) out.write(`\x1b[${live}A\r\x1b[J`);
    live = 0;
  };
  const draw = (): void => {
    const { running, summary } = standing(plan, jobs);
    const lines = [
      ...running.map(
        ({ trial, share }) =>
          `${title(trial)} | ${bar(share)} ${percent(share)}${trial.note === undefined ? '' : ` | ${printable(trial.note)}`}`,
      ),
      summary,
    ].map(line => line.slice(0, (out.columns ?? 80) - 1));
    clear();
    out.write(lines.map(line => `${line}\n`).join(''));
    live = lines.length;
  };
  const timer = out.isTTY
    ? setInterval(draw, FRAME_MS)
    : setInterval(() => void out.write(`${standing(plan, jobs).summary}\n`), LINE_EVERY_MS);
  timer.unref();
  return {
    trial(trial) {
      clear();
      if (trial.state === 'done' || trial.state === 'failed') out.write(`${title(trial)} | ${outcome(trial)}\n`);
    },
    end() {
      clearInterval(timer);
      clear();
    },
  };
}

/** What a trial came to, in a line. */
export function outcome({ row, error, known, took }: SweepTrial): string {
  if (!row) return `failed: ${printable(error ?? '')}`;
  const { top1, loss, imagesPerSecond } = row;
  const pace = `${imagesPerSecond === null ? '' : `${imagesPerSecond} img/s | `}${duration(took === undefined ? null : took / 1000)}`;
  return `top-1 ${percent(top1)} | loss ${decimals(loss, 3)} | ${known ? 'done before' : pace}`;
}

/** How a sweep stands: the trials under way, how far each is, and all in a line. */
function standing(
  plan: SweepPlan,
  jobs: number | undefined,
): { running: { trial: SweepTrial; share: number }[]; summary: string } {
  const { trials } = plan;
  const running = trials
    .filter(({ state }) => state === 'running')
    .map(trial => ({ trial, share: stepsDone(plan, trial) / trial.plan.totalSteps }));
  const count = (wanted: SweepTrial['state']): number => trials.filter(({ state }) => state === wanted).length;
  const failed = count('failed');
  const waits = trials.find(({ state, note }) => state === 'waiting' && note !== undefined)?.note;
  const left = timeLeft(trials, running, jobs ?? Math.max(1, running.length));
  return {
    running,
    summary: `${count('done')} of ${trials.length} done${failed > 0 ? ` | ${failed} failed` : ''}${waits === undefined ? '' : ` | next ${printable(waits)}`} | eta ${duration(left)}`,
  };
}

/** Seconds. A trial takes as long as others of its variant did, or, where there are none, as its multiply-accumulates say. */
function timeLeft(
  trials: readonly SweepTrial[],
  running: readonly { trial: SweepTrial; share: number }[],
  jobs: number,
): number | null {
  const now = performance.now();
  const ended = trials
    .filter(({ took }) => took !== undefined)
    .map(({ variant, work, took }) => ({ variant, work, took: took! }));
  const begun = running
    .filter(({ share }) => share > 0)
    .map(({ trial: { variant, work, began }, share }) => ({ variant, work: work * share, took: now - began! }));
  const samples = [...ended, ...begun];
  if (samples.length === 0) return null;
  const perWork = (of: typeof samples): number =>
    of.reduce((sum, { took }) => sum + took, 0) / of.reduce((sum, { work }) => sum + work, 0);
  const wholeTime = ({ variant, work }: SweepTrial): number => {
    const alike = ended.filter(sample => sample.variant === variant);
    return work * perWork(alike.length > 0 ? alike : samples);
  };
  const waiting = trials.filter(({ state }) => state === 'waiting').map(wholeTime);
  const rest = running.map(({ trial, share }) => (1 - share) * wholeTime(trial));
  const all = [...waiting, ...rest];
  return Math.max(0, ...rest, all.reduce((sum, time) => sum + time, 0) / jobs) / 1000;
}
