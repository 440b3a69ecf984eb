import type { Command } from 'commander';
import { batches } from '../data/batches';
import { withSide } from '../data/cache/side';
import type { Dataset, Split } from '../data/dataset';
import { NEAR_BITS, type NearDuplicate, nearDuplicates } from '../data/duplicates';
import { DATASET_SPECS, type DataOptions, openDataset } from '../data/open';
import { AUGMENTATIONS } from '../data/transforms/augmentation';
import { textTable, thousands } from '../util/tables';
import { counted } from '../util/text';
import { wholeNumber, withDataOptions } from './support/dataOptions';

interface Flags extends DataOptions {
  size: number;
  batch: number;
  workers: number;
  json?: true;
  duplicates?: true;
}

/**
 * `npm run data -- SPEC`: what a dataset holds, and how fast batches of it are made with the training augmentation. Training
 * must never wait for them: the rate is to be at least ten times that of the network. About 5 s, once the images are decoded.
 */
export function register(program: Command): void {
  withDataOptions(
    program
      .command('data')
      .description('what a dataset holds, and how fast it loads')
      .argument('[dataset]', DATASET_SPECS, 'petals')
      .option('--size <pixels>', 'side of the images that the network sees', wholeNumber, 96)
      .option('--batch <n>', 'images at once', wholeNumber, 16)
      .option('--workers <n>', 'threads that make batches', wholeNumber, 1)
      .option('--duplicates', 'list images that look the same, within splits and classes and across them')
      .option('--json', 'the same as JSON'),
  ).action(show);
}

async function show(spec: string, flags: Flags): Promise<void> {
  const dataset = await openDataset(spec, withSide(flags, flags.size));
  const { name, description, classes, fingerprint, skipped, findings } = dataset;
  const { train, val, test } = dataset;
  const splits = Object.entries({ train, val, test }).flatMap(([split, images]) =>
    images ? [describeSplit(split, images, flags.size)] : [],
  );
  const duplicates = flags.duplicates ? nearDuplicates(dataset) : undefined;
  const imagesPerSecond = await loadingRate(dataset, flags);
  const { size, batch, workers } = flags;
  if (flags.json) {
    console.log(
      JSON.stringify({
        name,
        description,
        fingerprint,
        classes,
        skipped,
        ...findings,
        splits,
        duplicates,
        loading: { size, batch, workers, imagesPerSecond },
      }),
    );
    return;
  }
  console.log(`${description}\nfingerprint ${fingerprint}\n`);
  console.log(
    textTable(
      { split: 'split', images: 'images', perClass: 'per class', sides: 'shorter side, px' },
      splits.map(row => ({
        split: row.split,
        images: thousands(row.images),
        perClass: interval(row.perClass),
        sides: interval(row.sides),
      })),
    ),
  );
  console.log(`\nclasses: ${classes.join(', ')}`);
  for (const { split, enlarged, images } of splits) {
    if (enlarged > 0)
      console.log(
        `enlarged from a shorter side below ${size} px: ${thousands(enlarged)} of ${counted(images, 'image')} in ${split}`,
      );
  }
  if (findings && findings.copies.withinClass > 0)
    console.log(`${counted(findings.copies.withinClass, 'file')} of equal bytes as another of the same class (copies)`);
  if (duplicates) tellDuplicates(duplicates);
  console.log(
    `\nloading: ${thousands(Math.round(imagesPerSecond))} img/s by ${counted(workers, 'thread')}, at ${size} px in batches of ${batch}, with random crop, flip and jitter`,
  );
}

/** Pairs that are listed one by one; --json has all. */
const LISTED = 20;

function tellDuplicates(pairs: readonly NearDuplicate[]): void {
  const across = (key: 'acrossSplits' | 'acrossClasses'): string => thousands(pairs.filter(pair => pair[key]).length);
  console.log(
    `\n${counted(pairs.length, 'pair')} of images that look the same (64-bit difference hashes at most ${NEAR_BITS} bits apart): ${across('acrossSplits')} across splits, ${across('acrossClasses')} across classes`,
  );
  for (const { a, b, distance, acrossSplits, acrossClasses } of pairs.slice(0, LISTED)) {
    const between = [...(acrossSplits ? ['splits'] : []), ...(acrossClasses ? ['classes'] : [])].join(' and ');
    console.log(`  ${a} ~ ${b}  ${counted(distance, 'bit')}${between === '' ? '' : `, across ${between}`}`);
  }
  if (pairs.length > LISTED) console.log(`  and ${thousands(pairs.length - LISTED)} more (--json lists all)`);
}

type Interval = [least: number, most: number];

/** Least and most of numbers, of which there may be more than a call takes arguments. */
function extent(values: Iterable<number>): Interval {
  const range: Interval = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    range[0] = Math.min(range[0], value);
    range[1] = Math.max(range[1], value);
  }
  return range;
}

const interval = ([least, most]: Interval): string => (least === most ? `${least}` : `${least}–${most}`);

interface SplitSummary {
  split: string;
  images: number;
  perClass: Interval;
  sides: Interval;
  /** Images with a shorter side below that of the network's input. */
  enlarged: number;
}

export function describeSplit(
  split: string,
  { length, numClasses, labels, widths, heights }: Split,
  size: number,
): SplitSummary {
  const perClass = new Array<number>(numClasses).fill(0);
  for (const label of labels) perClass[label]++;
  const sides = widths.map((width, i) => Math.min(width, heights[i]));
  return {
    split,
    images: length,
    perClass: extent(perClass),
    sides: extent(sides),
    enlarged: sides.reduce((count, side) => count + (side < size ? 1 : 0), 0),
  };
}

/** Images per second over at least three seconds of epochs, after one that starts the threads and warms them up. */
async function loadingRate({ train }: Dataset, { size, batch: batchSize, workers }: Flags): Promise<number> {
  let images = 0,
    seconds = 0;
  for (let epoch = 0; seconds < 3; epoch++) {
    const start = performance.now();
    let loaded = 0;
    for await (const { count } of batches(train, {
      batchSize,
      size,
      workers,
      epoch,
      shuffle: true,
      augment: AUGMENTATIONS.train,
    }))
      loaded += count;
    if (epoch === 0) continue;
    images += loaded;
    seconds += (performance.now() - start) / 1000;
  }
  return images / seconds;
}
