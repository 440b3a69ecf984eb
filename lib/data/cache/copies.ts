import type { Copies } from '../dataset';

/** Pairs that are named in a warning. */
const EXAMPLES = 5;

interface Original {
  name: string;
  split: string;
  label: number;
}

/** Counts files of equal bytes, by their digests. */
export function copyCounter(): { add(digest: string, image: Original): void; copies: Copies } {
  const originals = new Map<string, Original>();
  const copies: Copies = { acrossSplits: 0, acrossClasses: 0, withinClass: 0, examples: [] };
  return {
    copies,
    add(digest, { name, split, label }) {
      const original = originals.get(digest);
      if (!original) {
        originals.set(digest, { name, split, label });
        return;
      }
      const otherSplit = original.split !== split,
        otherClass = original.label !== label;
      if (otherSplit) copies.acrossSplits++;
      if (otherClass) copies.acrossClasses++;
      if (!otherSplit && !otherClass) copies.withinClass++;
      else if (copies.examples.length < EXAMPLES) copies.examples.push([original.name, name]);
    },
  };
}
