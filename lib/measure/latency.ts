import { random } from '../util/random';
import { median, quantile } from './statistics';

/** Something whose work can be repeated and timed. */
export interface Contender {
  readonly name: string;
  /** Does its work `count` times; the seconds that each took. */
  run(count: number): readonly number[] | Promise<readonly number[]>;
}

export interface Plan {
  rounds: number;
  /** Timings that a contender gives in each round. */
  perRound: number;
  /** Runs before the first round, dropped. */
  warmUp: number;
  /** Runs at the start of each turn, dropped: the others have just had the caches. */
  settle: number;
}

/**
 * Times contenders interleaved, one at a time, in rounds that each begin with the next of them, so that a machine whose speed drifts
 * drifts for all alike. Warm-up is dropped. Seconds by contender (in the order given) and round.
 */
export async function interleave(
  contenders: readonly Contender[],
  { rounds, perRound, warmUp, settle }: Plan,
): Promise<number[][][]> {
  const turns: number[][][] = contenders.map(() => []);
  for (const contender of contenders) if (warmUp > 0) await contender.run(warmUp);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const i = (round + turn) % contenders.length;
      const seconds = await contenders[i].run(settle + perRound);
      turns[i].push(seconds.slice(settle));
    }
  }
  return turns;
}

/** A contender in this process. `work` must end with its result on the host, or only the start of it would be timed. */
export function stopwatch(name: string, work: () => void): Contender {
  const once = (): number => {
    const start = performance.now();
    work();
    return (performance.now() - start) / 1000;
  };
  return { name, run: count => Array.from({ length: count }, once) };
}

/** The same of work that is awaited; `between` is not timed. */
export function asyncStopwatch(
  name: string,
  work: () => Promise<unknown>,
  between: () => Promise<unknown> = async () => {},
): Contender {
  return {
    name,
    async run(count) {
      const seconds: number[] = [];
      while (seconds.length < count) {
        await between();
        const start = performance.now();
        await work();
        seconds.push((performance.now() - start) / 1000);
      }
      return seconds;
    },
  };
}

/** A statistic of samples, and where it lies with the confidence asked for. */
export interface Estimate {
  value: number;
  low: number;
  high: number;
}

/** Percentile bootstrap (Efron 1979) of a statistic; seeded, so that equal samples give equal intervals. */
export function bootstrap<T>(
  samples: readonly T[],
  statistic: (samples: readonly T[]) => number,
  { confidence = 0.95, resamples = 2000, seed = 0 } = {},
): Estimate {
  const rng = random(seed);
  const draws = Array.from({ length: resamples }, () => statistic(samples.map(() => samples[rng.int(samples.length)])));
  const tail = (1 - confidence) / 2;
  return { value: statistic(samples), low: quantile(draws, tail), high: quantile(draws, 1 - tail) };
}

/**
 * A quantile of all timings, from timings by round. The bootstrap draws whole rounds, for what disturbs one timing disturbs its
 * neighbours too. Null where less than one timing lies beyond it: the slowest of twenty is no 99th percentile.
 */
export function timeQuantile(rounds: readonly (readonly number[])[], q: number): Estimate | null {
  if (rounds.flat().length * (1 - q) < 1 - 1e-9) return null;
  return bootstrap(rounds, drawn => quantile(drawn.flat(), q));
}

/**
 * How many times as long `theirs` takes as `ours`, from seconds by round: the median over rounds of the ratio of the medians
 * within a round, since only what ran side by side compares.
 */
export function speedUp(theirs: readonly (readonly number[])[], ours: readonly (readonly number[])[]): Estimate {
  return bootstrap(
    theirs.map((seconds, round) => median(seconds) / median(ours[round])),
    median,
  );
}
