import { random } from '../../util/random';
import type { Content, Found } from './found';

/** Holds back a part of each class: at least one image, and not all. Which ones depends on the seed, the class and the names alone. */
export function divide(classes: ReadonlyMap<string, Found[]>, fraction: number, seed: string): Content {
  const train = new Map<string, Found[]>(),
    test = new Map<string, Found[]>();
  for (const [className, images] of classes) {
    const order = random(seed).fork('split', className).permutation(images.length);
    const count =
      images.length < 2 ? 0 : Math.min(images.length - 1, Math.max(1, Math.round(fraction * images.length)));
    const heldBack = new Set(order.slice(0, count));
    train.set(
      className,
      images.filter((_, i) => !heldBack.has(i)),
    );
    test.set(
      className,
      images.filter((_, i) => heldBack.has(i)),
    );
  }
  return new Map([
    ['train', train],
    ['test', test],
  ]);
}

/** At most so many images, from every class as evenly as they are there, chosen by the seed; they stay in their order. */
export function limited(
  classes: ReadonlyMap<string, Found[]>,
  limit: number,
  seed: string,
  split: string,
): Map<string, Found[]> {
  const orders = [...classes].map(([className, images]) =>
    random(seed).fork('limit', split, className).permutation(images.length),
  );
  const taken = orders.map(() => 0);
  for (let left = limit, moved = true; left > 0 && moved; ) {
    moved = false;
    orders.forEach((order, i) => {
      if (left === 0 || taken[i] === order.length) return;
      taken[i]++;
      left--;
      moved = true;
    });
  }
  return new Map(
    [...classes].map(([className, images], i) => {
      const kept = new Set(orders[i].slice(0, taken[i]));
      return [className, images.filter((_, at) => kept.has(at))];
    }),
  );
}
