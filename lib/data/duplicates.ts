import { type Dataset, type Picture, pictureReader, type Split } from './dataset';
import { resizeBox } from './transforms/resize';

/** Two 32-bit halves. */
type Hash = readonly [high: number, low: number];

const COLUMNS = 9,
  ROWS = 8;

/**
 * 64-bit difference hash: whether each of 8×8 points is darker than its right neighbour in a grey copy of 9×8 pixels. Undefined for an
 * image of one colour, whose hash would be that of any other. Source: N. Krawetz, "Kind of Like That", 2013.
 */
export function differenceHash(image: Picture): Hash | undefined {
  const pixels = resizeBox(
    image,
    { x: 0, y: 0, width: image.width, height: image.height },
    [ROWS, COLUMNS],
    'bilinear',
  );
  const grey = (at: number): number => 299 * pixels[3 * at] + 587 * pixels[3 * at + 1] + 114 * pixels[3 * at + 2]; // ITU-R 601
  let flat = true;
  const half = (firstRow: number): number => {
    let bits = 0;
    for (let row = firstRow; row < firstRow + ROWS / 2; row++) {
      for (let column = 0; column < COLUMNS - 1; column++) {
        const at = row * COLUMNS + column;
        const difference = grey(at + 1) - grey(at);
        if (difference !== 0) flat = false;
        bits = (bits << 1) | (difference > 0 ? 1 : 0);
      }
    }
    return bits >>> 0;
  };
  const hash: Hash = [half(0), half(ROWS / 2)];
  return flat ? undefined : hash;
}

function bitCount(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

export const hammingDistance = (a: Hash, b: Hash): number => bitCount(a[0] ^ b[0]) + bitCount(a[1] ^ b[1]);

/** Hashes that differ in at most so many of their 64 bits are taken for the same image: resized, compressed again, or slightly cropped. */
export const NEAR_BITS = 4;

/** Two images that look the same. */
export interface NearDuplicate {
  a: string;
  b: string;
  /** Bits in which their hashes differ. */
  distance: number;
  /** Whether the two are in different splits, or have different classes. */
  acrossSplits: boolean;
  acrossClasses: boolean;
}

interface Entry {
  name: string;
  split: string;
  label: number;
}

/** Of 5 bands of the bits, one at least is equal where 4 bits differ: only hashes that have a band in common are compared. */
const BANDS: readonly ((hash: Hash) => number)[] = [
  ([high]) => high >>> 19,
  ([high]) => (high >>> 6) & 0x1fff,
  ([high, low]) => ((high & 0x3f) << 7) | (low >>> 25),
  ([, low]) => (low >>> 12) & 0x1fff,
  ([, low]) => low & 0xfff,
];

/**
 * Pairs of images whose difference hashes are at most `NEAR_BITS` apart; of images with equal hashes, each with the first of them. About
 * a minute for 100,000 images.
 */
export function nearDuplicates({ train, test, val }: Pick<Dataset, 'train' | 'test' | 'val'>): NearDuplicate[] {
  const groups = new Map<string, { hash: Hash; first: Entry }>();
  const pairs: NearDuplicate[] = [];
  const pair = (a: Entry, b: Entry, distance: number): void =>
    void pairs.push({
      a: a.name,
      b: b.name,
      distance,
      acrossSplits: a.split !== b.split,
      acrossClasses: a.label !== b.label,
    });
  for (const [split, images] of Object.entries({ train, val, test } satisfies Record<string, Split | undefined>)) {
    if (!images) continue;
    const reader = pictureReader(images);
    try {
      for (let i = 0; i < images.length; i++) {
        const hash = differenceHash(reader.read(i));
        if (!hash) continue;
        const entry = { name: images.names[i], split, label: images.labels[i] };
        const group = groups.get(hash.join());
        if (group) pair(group.first, entry, 0);
        else groups.set(hash.join(), { hash, first: entry });
      }
    } finally {
      reader.close();
    }
  }
  const different = [...groups.values()];
  const seen = new Set<number>();
  for (const band of BANDS) {
    const buckets = new Map<number, number[]>();
    different.forEach(({ hash }, i) => {
      const key = band(hash);
      const bucket = buckets.get(key);
      if (bucket) bucket.push(i);
      else buckets.set(key, [i]);
    });
    for (const bucket of buckets.values()) {
      for (let i = 0; i < bucket.length; i++) {
        for (let j = i + 1; j < bucket.length; j++) {
          const [a, b] = [different[bucket[i]], different[bucket[j]]];
          const distance = hammingDistance(a.hash, b.hash);
          const key = bucket[i] * different.length + bucket[j];
          if (distance > NEAR_BITS || seen.has(key)) continue;
          seen.add(key);
          pair(a.first, b.first, distance);
        }
      }
    }
  }
  return pairs.sort(
    (a, b) =>
      Number(b.acrossSplits) - Number(a.acrossSplits) ||
      Number(b.acrossClasses) - Number(a.acrossClasses) ||
      a.distance - b.distance,
  );
}
