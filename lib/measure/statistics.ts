/** The value below which a fraction `q` of the samples lies, interpolated linearly (numpy's default). */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** A mean over runs that differ by their seed alone. */
export interface MeanInterval {
  /** Runs. */
  count: number;
  mean: number;
  /**
   * Half of the interval that holds the true mean with the confidence asked for, by Student's t distribution, which asks more of
   * few runs than the normal one does. Null for a single run, which says nothing about the next.
   */
  half: number | null;
}

/** Throws a RangeError for no samples. */
export function meanInterval(samples: readonly number[], confidence = 0.95): MeanInterval {
  const count = samples.length;
  if (count === 0) throw new RangeError('There is no mean of no samples.');
  const mean = samples.reduce((sum, sample) => sum + sample, 0) / count;
  if (count === 1) return { count, mean, half: null };
  const variance = samples.reduce((sum, sample) => sum + (sample - mean) ** 2, 0) / (count - 1);
  return { count, mean, half: studentT(confidence, count - 1) * Math.sqrt(variance / count) };
}

/** The t that |T| stays below with probability `confidence`, T being Student's with an integer number of degrees of freedom: 12.706 for 0.95 and 1. */
export function studentT(confidence: number, freedom: number): number {
  let [low, high] = [0, Math.PI / 2];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (probabilityBelow(middle, freedom) < confidence) low = middle;
    else high = middle;
  }
  return Math.sqrt(freedom) * Math.tan((low + high) / 2);
}

/** P(|T| < √ν tan θ) for ν degrees of freedom: Abramowitz & Stegun 26.7.3 and 26.7.4, exact for whole ν. */
function probabilityBelow(angle: number, freedom: number): number {
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  const odd = freedom % 2 === 1;
  let term = odd ? cosine : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= ((k - 1) / k) * cosine ** 2;
    sum += term;
  }
  return odd ? (2 / Math.PI) * (angle + sine * sum) : sine * sum;
}

/**
 * Standard deviation of one sample, pooled over several means of samples that vary alike. From half of each 95 % interval back to its
 * variance, weighted by degrees of freedom; means of a single sample are left out. Throws a RangeError if none is left.
 */
export function pooledDeviation(intervals: readonly MeanInterval[]): number {
  let [freedom, squares] = [0, 0];
  for (const { count, half } of intervals) {
    if (half === null) continue;
    freedom += count - 1;
    squares += (count - 1) * count * (half / studentT(0.95, count - 1)) ** 2;
  }
  if (freedom === 0) throw new RangeError('There is no deviation without a mean of two samples.');
  return Math.sqrt(squares / freedom);
}

/**
 * Probability that the interval of a mean of `count` samples excludes 0 when the true mean is `effect` and a sample deviates by
 * `deviation`: the power of the two-sided one-sample t-test, by the noncentral t distribution (Cohen 1988, chapter 2). An interval whose
 * half is as long as the effect has a power of only about one half.
 */
export function power(effect: number, deviation: number, count: number, confidence = 0.95): number {
  const freedom = count - 1;
  const critical = studentT(confidence, freedom);
  const shift = (effect * Math.sqrt(count)) / deviation;
  // Given the sample deviation s·σ, the t statistic is normal; s²ν is χ² with ν degrees of freedom. Simpson's rule over s.
  const [steps, top] = [2000, 1 + 12 / Math.sqrt(2 * freedom)];
  const density = (s: number): number =>
    s === 0 ? (freedom === 1 ? 1 : 0) : Math.exp((freedom - 1) * Math.log(s) - (freedom * (s * s - 1)) / 2);
  let [mass, rejected] = [0, 0];
  for (let i = 0; i <= steps; i++) {
    const s = (top * i) / steps;
    const weight = density(s) * (i === 0 || i === steps ? 1 : i % 2 === 1 ? 4 : 2);
    mass += weight;
    rejected += weight * (normalBelow(shift - critical * s) + normalBelow(-shift - critical * s));
  }
  return rejected / mass;
}

/** The least number of samples, 2 or more, whose mean tells `effect` from 0 with this power. See `power`. */
export function samplesNeeded(effect: number, deviation: number, wanted = 0.8): number {
  let count = 2;
  while (power(effect, deviation, count) < wanted) count++;
  return count;
}

/** P(Z < z) for a standard normal Z: Abramowitz & Stegun 7.1.26, to 1.5e-7. */
function normalBelow(z: number): number {
  const x = Math.abs(z) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  const polynomial = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  const tail = (polynomial * Math.exp(-x * x)) / 2;
  return z > 0 ? 1 - tail : tail;
}
