import { UserError } from '../../util/errors';

/** Shorter side, in pixels, at which images are kept unless told otherwise. */
export const DEFAULT_SIDE = 256;

/** ImageNet's custom for crops of 224 pixels: the image around them has a shorter side of 256. */
const ROOM = 256 / 224;

/**
 * The options by which images are opened for a network that sees `size` pixels: crops are cut from the kept copies, and would be enlarged
 * from smaller ones. Above 256 pixels the copies are kept larger, by 8 to 7. Throws a UserError where the given side is below the size.
 */
export function withSide<T extends { side?: number }>(
  options: T,
  size: number | readonly [height: number, width: number],
): T {
  const largest = typeof size === 'number' ? size : Math.max(...size);
  if (options.side === undefined)
    return largest <= DEFAULT_SIDE ? options : { ...options, side: Math.ceil(largest * ROOM) };
  if (options.side < largest)
    throw new UserError(
      `--side=${options.side} keeps smaller images than the network sees (--size=${largest}), so that all would be enlarged: a side of ${largest} or more is needed, ${Math.ceil(largest * ROOM)} by default.`,
    );
  return options;
}
