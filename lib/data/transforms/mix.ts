import { exp, log } from '../../util/elementary';
import { power } from '../../util/power';
import type { Random } from '../../util/random';
import type { Size } from './augment';
import type { Augmentation } from './augmentation';

/** How an image is mixed with a partner. `keep` is the fraction of the image's own label. */
export interface Mix {
  partner: number;
  keep: number;
  /** Where the partner's pixels go (cutmix); without it the two are blended (mixup). */
  box?: { top: number; left: number; bottom: number; right: number };
}

/** Gamma(shape, 1) by Marsaglia and Tsang (2000); a shape below 1 is raised by 1 and corrected. */
function gamma(shape: number, rng: Random): number {
  if (shape < 1) return gamma(shape + 1, rng) * exp(log(1 - rng.uniform()) / shape);
  const d = shape - 1 / 3,
    c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = rng.normal();
    const v = power(1 + c * x, 3);
    if (v > 0 && log(1 - rng.uniform()) < 0.5 * x * x + d - d * v + d * log(v)) return d * v;
  }
}

/** Beta(α, α). */
function beta(alpha: number, rng: Random): number {
  const a = gamma(alpha, rng),
    b = gamma(alpha, rng);
  return a + b > 0 ? a / (a + b) : 0.5; // a tiny α underflows both
}

/**
 * How an image of a split of `length` is mixed. The partner comes from the whole split rather than from the batch, so that
 * what becomes of an image depends on nothing but its seed, its epoch and itself.
 */
export function drawMix({ mixup, cutmix }: Augmentation, length: number, [height, width]: Size, rng: Random): Mix {
  const partner = rng.int(length);
  const cut = cutmix > 0 && (mixup === 0 || rng.uniform() < 0.5);
  const keep = beta(cut ? cutmix : mixup, rng);
  if (!cut) return { partner, keep };
  // CutMix (Yun et al. 2019): a box of area 1 − keep around a random point, clipped by the image, so the fraction is counted again.
  const side = Math.sqrt(1 - keep) / 2;
  const y = rng.int(height),
    x = rng.int(width);
  const halfHeight = Math.trunc(height * side),
    halfWidth = Math.trunc(width * side);
  const box = {
    top: Math.max(0, y - halfHeight),
    bottom: Math.min(height, y + halfHeight),
    left: Math.max(0, x - halfWidth),
    right: Math.min(width, x + halfWidth),
  };
  return { partner, keep: 1 - ((box.bottom - box.top) * (box.right - box.left)) / (height * width), box };
}

/** Mixes the partner's image into `out`, both [height, width, 3]. */
export function applyMix(out: Float32Array, partner: Float32Array, { keep, box }: Mix, width: number): void {
  if (!box) {
    for (let i = 0; i < out.length; i++) out[i] = keep * out[i] + (1 - keep) * partner[i];
    return;
  }
  for (let y = box.top; y < box.bottom; y++) {
    const from = (y * width + box.left) * 3,
      to = (y * width + box.right) * 3;
    out.set(partner.subarray(from, to), from);
  }
}
