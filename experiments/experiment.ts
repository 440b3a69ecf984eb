import { InvalidArgumentError, type Command } from 'commander';
import { UserError } from '../lib/errors';
import type { KeptDataOptions } from '../lib/lab/runs';
import { ablations } from './ablations';
import { withDataOptions, wholeNumber } from './dataOptions';
import { models } from './models';
import { tradeoffs } from './tradeoffs';

/** One question, as data or as a function: its file says what it costs and what it promises. */
export interface Experiment {
  /** The question and the cost, in a line. */
  about: string;
  run(flags: ExperimentFlags): Promise<void>;
}

/** What is not given is the experiment's own. */
export interface ExperimentFlags extends KeptDataOptions {
  data?: string;
  seeds?: number;
  epochs?: number;
  /** As text, a side in pixels or HEIGHTxWIDTH. */
  size?: string;
  only?: readonly string[];
}

const EXPERIMENTS: Record<string, Experiment> = { ablations, models, tradeoffs };

/** `npm run experiment -- NAME`: answers one of the lab's questions by measuring, into a file of experiments/results. */
export function register(program: Command): void {
  const list = Object.entries(EXPERIMENTS).map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`).join('\n');
  withDataOptions(program
    .command('experiment')
    .description(`answer one of the lab's questions by measuring:\n${list}`)
    .argument('[name]', Object.keys(EXPERIMENTS).join(', '))
    .option('--data <spec>', 'petals[:key=value,…], folder:PATH or flowers102[:split=official|paddle]')
    .option('--seeds <n>', 'runs of each variant, which differ by their seed', wholeNumber)
    .option('--epochs <n>', 'passes over the training pictures', wholeNumber)
    .option('--size <pixels>', 'side of the pictures, or HEIGHTxWIDTH')
    .option('--only <names>', 'some of the variants, separated by commas', names))
    .action(async (name: string | undefined, flags: ExperimentFlags) => {
      if (name === undefined || !Object.hasOwn(EXPERIMENTS, name)) {
        throw new UserError(`${name === undefined ? 'Which experiment?' : `Unknown experiment '${name}'.`} There are\n${list}`);
      }
      await EXPERIMENTS[name].run(flags);
    });
}

function names(text: string): string[] {
  const all = text.split(',').filter(Boolean);
  if (all.length === 0) throw new InvalidArgumentError('Names are expected, separated by commas.');
  return all;
}
