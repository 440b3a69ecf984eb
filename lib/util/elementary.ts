/*
 * Elementary functions by additions, multiplications and divisions of doubles alone, which IEEE 754 rounds alike everywhere. `Math`'s last bits
 * are each engine's own: Node's exp, sin, cos and atan2 differ between x64 and arm64. Whatever decides a byte of a result takes these,
 * `Math.sqrt`, which is exact, and `power`. Less than one unit in the last place from the true value.
 */

/** ln 2 and π/2 in parts: a multiple of all but the last is exact while the multiplier has 20 bits. */
const LN2 = [0.6931471803691238, 1.9082149292705877e-10] as const;
const HALF_PI = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21] as const;
/** π as a double, and what that lacks. */
const PI_TAIL = 1.2246467991473532e-16;

/*
 * Series by Horner's rule, written out, since weights are initialised and images made by millions of these: a loop takes twice as long.
 */

/** (eʳ − 1 − r) / r². */
function expSeries(r: number): number {
  let sum = 1 / 87178291200;
  sum = sum * r + 1 / 6227020800;
  sum = sum * r + 1 / 479001600;
  sum = sum * r + 1 / 39916800;
  sum = sum * r + 1 / 3628800;
  sum = sum * r + 1 / 362880;
  sum = sum * r + 1 / 40320;
  sum = sum * r + 1 / 5040;
  sum = sum * r + 1 / 720;
  sum = sum * r + 1 / 120;
  sum = sum * r + 1 / 24;
  sum = sum * r + 1 / 6;
  return sum * r + 1 / 2;
}

/** (sin r − r) / r³, of z = r². */
function sinSeries(z: number): number {
  let sum = -1 / 121645100408832000;
  sum = sum * z + 1 / 355687428096000;
  sum = sum * z - 1 / 1307674368000;
  sum = sum * z + 1 / 6227020800;
  sum = sum * z - 1 / 39916800;
  sum = sum * z + 1 / 362880;
  sum = sum * z - 1 / 5040;
  sum = sum * z + 1 / 120;
  return sum * z - 1 / 6;
}

/** (cos r − 1 + z/2) / z², of z = r². */
function cosSeries(z: number): number {
  let sum = 1 / 2432902008176640000;
  sum = sum * z - 1 / 6402373705728000;
  sum = sum * z + 1 / 20922789888000;
  sum = sum * z - 1 / 87178291200;
  sum = sum * z + 1 / 479001600;
  sum = sum * z - 1 / 3628800;
  sum = sum * z + 1 / 40320;
  sum = sum * z - 1 / 720;
  return sum * z + 1 / 24;
}

/** (2 artanh s − 2 s) / s³, of z = s². */
function logSeries(z: number): number {
  let sum = 2 / 25;
  sum = sum * z + 2 / 23;
  sum = sum * z + 2 / 21;
  sum = sum * z + 2 / 19;
  sum = sum * z + 2 / 17;
  sum = sum * z + 2 / 15;
  sum = sum * z + 2 / 13;
  sum = sum * z + 2 / 11;
  sum = sum * z + 2 / 9;
  sum = sum * z + 2 / 7;
  sum = sum * z + 2 / 5;
  return sum * z + 2 / 3;
}

/** (atan t − t) / t³, of z = t². */
function atanSeries(z: number): number {
  let sum = -1 / 15;
  sum = sum * z + 1 / 13;
  sum = sum * z - 1 / 11;
  sum = sum * z + 1 / 9;
  sum = sum * z - 1 / 7;
  sum = sum * z + 1 / 5;
  return sum * z - 1 / 3;
}

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer);
const HIGH = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;

/** 2 to an integer power between -1022 and 1023. */
function powerOfTwo(exponent: number): number {
  words[1 - HIGH] = 0;
  words[HIGH] = (exponent + 1023) << 20;
  return double[0]!;
}

/** eˣ. */
export function exp(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x > 709.79) return Number.POSITIVE_INFINITY;
  if (x < -745.14) return 0;
  const k = Math.round(x / (LN2[0] + LN2[1]));
  const high = x - k * LN2[0];
  const low = k * LN2[1];
  const r = high - low;
  const sum = 1 + r;
  const value = sum + (1 - sum + r + (r * r * expSeries(r) + (high - r - low)));
  const half = Math.trunc(k / 2); // in two steps, as 2ᵏ alone may be no double
  return value * powerOfTwo(half) * powerOfTwo(k - half);
}

/** The natural logarithm. */
export function log(x: number): number {
  if (Number.isNaN(x) || x < 0) return Number.NaN;
  if (x === 0) return Number.NEGATIVE_INFINITY;
  if (x === Number.POSITIVE_INFINITY) return x;
  const isSubnormal = x < 2 ** -1022;
  double[0] = isSubnormal ? x * 2 ** 54 : x;
  let k = (words[HIGH]! >>> 20) - 1023 - (isSubnormal ? 54 : 0);
  words[HIGH] = (words[HIGH]! & 0xfffff) | (1023 << 20);
  let mantissa = double[0]!;
  if (mantissa > Math.SQRT2) {
    mantissa /= 2;
    k++;
  }
  // log(1 + f) = 2 artanh s = f − (f²/2 − s (f²/2 + R)), where the parts that are large are exact.
  const f = mantissa - 1;
  const s = f / (2 + f);
  const z = s * s;
  const half = 0.5 * f * f;
  const rest = z * logSeries(z);
  return k * LN2[0] - (half - (s * (half + rest) + k * LN2[1]) - f);
}

/** The largest angle, in radians, whose quadrant is found exactly. */
const MAX_ANGLE = 1e6;

function sinNear(r: number, tail: number): number {
  const z = r * r;
  return r + (r * z * sinSeries(z) + tail * (1 - z / 2));
}

function cosNear(r: number, tail: number): number {
  const z = r * r;
  const half = z / 2;
  const first = 1 - half;
  return first + (1 - first - half + (z * z * cosSeries(z) - r * tail));
}

/** sin (x + shift · π/2): the nearest multiple of π/2, and what is left as the sum of two doubles. */
function sinShifted(x: number, shift: number): number {
  if (Math.abs(x) > MAX_ANGLE)
    throw new RangeError(`An angle of ${x} is beyond ±${MAX_ANGLE}, where its sin and cos are known.`);
  const n = Math.round(x / HALF_PI[0]);
  const first = x - n * HALF_PI[0];
  const second = n * HALF_PI[1];
  const high = first - second;
  const low = first - high - second - n * HALF_PI[2];
  const r = high + low;
  const tail = high - r + low;
  const quarter = (n + shift) & 3;
  const value = quarter % 2 === 0 ? sinNear(r, tail) : cosNear(r, tail);
  return quarter < 2 ? value : -value;
}

/** Throws RangeError beyond ±10⁶. */
export function sin(x: number): number {
  if (x === 0) return x;
  return Number.isFinite(x) ? sinShifted(x, 0) : Number.NaN;
}

/** Throws RangeError beyond ±10⁶. */
export function cos(x: number): number {
  return Number.isFinite(x) ? sinShifted(x, 1) : Number.NaN;
}

/** atan(n/8) as a double, and what that lacks. */
const EIGHTHS = Float64Array.of(
  ...[0, 0.12435499454676144, 0.24497866312686414, 0.35877067027057225, 0.4636476090008061],
  ...[0.5585993153435624, 0.6435011087932844, 0.7188299996216245, 0.7853981633974483],
);
const LACKING = Float64Array.of(
  ...[0, -3.1253241424539383e-18, 1.0698755618734451e-17, -2.4623815582638635e-17, 2.2698777452961687e-17],
  ...[-5.4556305485916264e-18, 1.5834785051444286e-17, -2.1478388444456983e-17, 3.061616997868383e-17],
);

/** The angle of the point (x, y), from −π to π. */
export function atan2(y: number, x: number): number {
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.NaN;
  const a = Math.abs(y);
  const b = Math.abs(x);
  const isSteep = a > b;
  const ratio = a === b ? (a === 0 ? 0 : 1) : isSteep ? b / a : a / b;
  // The nearest eighth's angle, and that of what is left, as the sum of two doubles.
  const n = Math.round(8 * ratio);
  const t = n === 0 ? ratio : (8 * ratio - n) / (8 + n * ratio);
  const z = t * t;
  const high = EIGHTHS[n]!;
  let value = high + t;
  let tail = high - value + t + (t * z * atanSeries(z) + LACKING[n]!);
  if (isSteep) {
    const less = Math.PI / 2 - value;
    tail = Math.PI / 2 - less - value + (PI_TAIL / 2 - tail);
    value = less;
  }
  if (x < 0 || Object.is(x, -0)) {
    const less = Math.PI - value;
    tail = Math.PI - less - value + (PI_TAIL - tail);
    value = less;
  }
  const angle = value + tail;
  return y < 0 || Object.is(y, -0) ? -angle : angle;
}
