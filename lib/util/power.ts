/**
 * A number to a whole power from 0, by multiplications alone. `**` is what the C library of Node makes of it: between Node 22 and 24 its last bit
 * changed. Whatever decides a byte of a result takes this, `Math.sqrt`, which is exact, or `exp` of a `log` (elementary.ts).
 */
export function power(base: number, exponent: number): number {
  let result = 1;
  for (let square = base, left = exponent; left > 0; left = Math.floor(left / 2), square *= square)
    if (left % 2 === 1) result *= square;
  return result;
}
