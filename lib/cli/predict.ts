import { type Command, InvalidArgumentError } from 'commander';
import type { Picture } from '../data/dataset';
import { openEngine } from '../engine/open';
import { writeAttention } from '../jupyter/display/attentionPage';
import { attends } from '../measure/attention';
import { percent } from '../runs/console';
import { compiledPredictor, readImage } from '../runs/predictor';
import { RUNS } from '../runs/store';
import type { ClassProbability } from '../train/ranked';
import { UserError } from '../util/errors';
import { textTable } from '../util/tables';
import { attentionOver } from './support/attention';
import { wholeNumber } from './support/dataOptions';
import { openSource } from './support/source';

interface Flags {
  top: number;
  json?: boolean;
  attention?: string | true;
  size?: string;
  runs: string;
}

/** `npm run predict -- RUN|FILE IMAGE…`: what a model takes images for. Seconds. */
export function register(program: Command): void {
  program
    .command('predict')
    .description('tell what a trained model takes images for')
    .argument('<source>', 'a run, by name or folder, or a file of weights')
    .argument('<images...>', 'files: JPEG, PNG, WebP, GIF, TIFF or AVIF')
    .option('--top <n>', 'how many classes to tell of each', wholeNumber, 5)
    .option('--json', 'the same as JSON')
    .option(
      '--attention [file]',
      "what the delegates attend to, as a page (.html) or an image (.png) of all blocks and heads; EdgeViT only (default: 'attention.html')",
      pageOrImage,
    )
    .option('--size <pixels>', 'side of the images, or HEIGHTxWIDTH, of a file (default: 224)')
    .option('--runs <folder>', 'where runs are kept', RUNS)
    .action(run);
}

async function run(name: string, paths: string[], { top, json, attention, size, runs }: Flags): Promise<void> {
  const source = await openSource(name, { runs, size });
  const photos: Picture[] = [];
  for (const path of paths) photos.push(await readImage(path, source)); // all are told of before anything is computed
  await openEngine({ announce: !json });
  const predictor = compiledPredictor(source);
  try {
    if (attention !== undefined && !attends(source.model))
      throw new UserError(`${source.model.name} has no delegates that attend: --attention is for EdgeViTs that do.`);
    const predictions: { image: string; top: ClassProbability[] }[] = [];
    for (const [i, photo] of photos.entries())
      predictions.push({ image: paths[i]!, top: (await predictor.predict(photo)).slice(0, top) });
    if (json) console.log(JSON.stringify(predictions, null, 2));
    else
      for (const { image, top } of predictions) {
        const rows = top.map(({ name, probability }) => ({ class: name, probability: percent(probability) }));
        console.log(`\n${image}\n${textTable({ class: 'class', probability: 'probability' }, rows)}`);
      }
    if (attention === undefined) return;
    const file = attention === true ? 'attention.html' : attention;
    const seen = photos.map((photo, i) => ({ ...predictions[i]!, ...attentionOver(photo, source) }));
    await writeAttention(file, source.name, seen);
    if (!json) console.log(`\nattention in ${file}`);
  } finally {
    predictor.dispose();
  }
}

function pageOrImage(file: string): string {
  if (!/\.(html|png)$/.test(file)) throw new InvalidArgumentError('A file that ends in .html or .png is expected.');
  return file;
}
