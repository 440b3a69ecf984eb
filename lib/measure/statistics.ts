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

/** The t that |T| stays below with probability `confidence`, T being Student's with a whole number of degrees of freedom: 12.706 for 0.95 and 1. */
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
