import type { Command } from 'commander';
import { openEngine } from '../engine/open';
import { formatSummary, summarise } from '../measure/summary';
import { architectureOf, createModel, parseSize } from '../model/registry';
import { wholeNumber } from './support/dataOptions';

interface Options {
  size: string;
  batch: number;
  classes?: number;
  ablation?: string;
  set?: string[];
  json?: boolean;
}

/** `npm run summary -- MODEL`: the table that `paddle.summary` prints, for every model. About 2 s. */
export function register(program: Command): void {
  program
    .command('summary')
    .description('layers, shapes, parameters, sizes and MACs of a model')
    .argument('<model>', 'edgevit-xxs, article, mobilenet-v2, …')
    .option('--size <pixels>', 'side of the images, or height x width: 192x256', '224')
    .option('--batch <n>', 'images at once', wholeNumber, 1)
    .option('--classes <n>', "outputs (default: 1000; the article's 103)", wholeNumber)
    .option('--ablation <name>', 'an ablation of EdgeViT')
    .option('--set <settings...>', "settings of the model's configuration: key=value")
    .option('--json', 'the same as JSON')
    .action(run);
}

async function run(name: string, options: Options): Promise<void> {
  const { classes: numClasses = architectureOf(name).classes, batch } = options;
  const model = createModel(name, {
    numClasses,
    size: parseSize(options.size),
    ablation: options.ablation,
    set: options.set,
  });
  await openEngine({ announce: true });
  const summary = summarise(model, batch);
  const { inputSize, config } = model;
  console.log(
    options.json
      ? JSON.stringify({ model: name, numClasses, inputSize, batch, config, ...summary })
      : formatSummary(summary),
  );
}
