import type { Command } from 'commander';
import { batches } from '../data/batches';
import type { Dataset, Split } from '../data/dataset';
import { type DataOptions, openDataset } from '../data/open';
import { AUGMENTATIONS } from '../data/transforms/augmentation';
import { textTable, thousands } from '../util/tables';
import { wholeNumber, withDataOptions } from './support/dataOptions';

interface Flags extends DataOptions {
  size: number;
  batch: number;
  workers: number;
  json?: true;
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
      .argument('[dataset]', 'petals[:key=value,…], folder:PATH or flowers102[:split=official|paddle]', 'petals')
      .option('--size <pixels>', 'side of the images that the network sees', wholeNumber, 96)
      .option('--batch <n>', 'images at once', wholeNumber, 16)
      .option('--workers <n>', 'threads that make batches', wholeNumber, 1)
      .option('--json', 'the same as JSON'),
  ).action(show);
}

async function show(spec: string, flags: Flags): Promise<void> {
  const dataset = await openDataset(spec, flags);
  const { name, description, classes, fingerprint, skipped } = dataset;
  const { train, val, test } = dataset;
  const splits = Object.entries({ train, val, test }).flatMap(([split, pictures]) =>
    pictures ? [describeSplit(split, pictures)] : [],
  );
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
        splits,
        loading: { size, batch, workers, imagesPerSecond },
      }),
    );
    return;
  }
  console.log(`${description}\nfingerprint ${fingerprint}\n`);
  console.log(
    textTable(
      { split: 'split', pictures: 'images', perClass: 'per class', sides: 'shorter side, px' },
      splits.map(row => ({
        split: row.split,
        pictures: thousands(row.pictures),
        perClass: interval(row.perClass),
        sides: interval(row.sides),
      })),
    ),
  );
  console.log(`\nclasses: ${classes.join(', ')}`);
  const by = workers === 1 ? 'one thread' : `${workers} threads`;
  console.log(
    `\nloading: ${thousands(Math.round(imagesPerSecond))} img/s by ${by}, at ${size} px in batches of ${batch}, with random crop, flip and jitter`,
  );
}

type Interval = [least: number, most: number];

const extent = (values: number[]): Interval => [Math.min(...values), Math.max(...values)];
const interval = ([least, most]: Interval): string => (least === most ? `${least}` : `${least}–${most}`);

interface SplitSummary {
  split: string;
  pictures: number;
  perClass: Interval;
  sides: Interval;
}

function describeSplit(split: string, { length, numClasses, labels, widths, heights }: Split): SplitSummary {
  const perClass = new Array<number>(numClasses).fill(0);
  for (const label of labels) perClass[label]++;
  return {
    split,
    pictures: length,
    perClass: extent(perClass),
    sides: extent(Array.from(widths, (width, i) => Math.min(width, heights[i]))),
  };
}

/** Images per second over at least three seconds of epochs, after one that starts the threads and warms them up. */
async function loadingRate({ train }: Dataset, { size, batch: batchSize, workers }: Flags): Promise<number> {
  let pictures = 0,
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
    pictures += loaded;
    seconds += (performance.now() - start) / 1000;
  }
  return pictures / seconds;
}
