import { type Command, InvalidArgumentError, Option } from 'commander';
import { DATASET_SPECS } from '../data/open';
import { parseSeeds } from '../runs/seeds';
import { timeLimit } from '../runs/slurmScript';
import { UserError } from '../util/errors';
import { numberOfRetries } from '../util/options';
import { nearest } from '../util/suggest';
import { BACKENDS } from './support/backends';
import { checked } from './support/checked';
import { threadCount, wholeNumber, withDataOptions } from './support/dataOptions';
import { type ExperimentFlags, loadExperiments } from './support/experiments';

/** Flags of every experiment: they say how images are read. */
const DATA_FLAGS: readonly (keyof ExperimentFlags)[] = ['flowers102Dir', 'cacheDir', 'side', 'decode', 'strict'];

/** `npm run experiment -- NAME`: answers one of the lab's questions by measuring. */
export async function register(program: Command): Promise<void> {
  const experiments = await loadExperiments();
  const list = [...experiments]
    .map(([name, { question, cost }]) => `  ${name.padEnd(12)} ${question} (${cost})`)
    .join('\n');
  const command = withDataOptions(
    program
      .command('experiment')
      .description(`answer one of the lab's questions by measuring:\n${list}`)
      .argument('[name]', [...experiments.keys()].join(', '))
      .option('--data <spec>', DATASET_SPECS)
      .option(
        '--seeds <seeds>',
        'of the runs of each variant: how many (3 is 0, 1 and 2), from..to, or a list (0,7,9)',
        parseSeeds,
      )
      .option('--epochs <n>', 'passes over the training images', wholeNumber)
      .option('--size <pixels>', 'side of the images, or HEIGHTxWIDTH')
      .option(
        '--only <names>',
        'some of the variants, separated by commas or spaces where their names have commas',
        names,
      )
      .option(
        '--set <key=value>',
        'any other setting of the recipe, its augmentation or its model, for all variants; repeatable',
        (value: string, all: string[] = []) => [...all, value],
      )
      .option('--jobs <n>', 'trials at once, each in a process of its own (default: 1)', wholeNumber)
      .addOption(
        new Option('--on <where>', 'who trains: processes here, a Slurm cluster, or workers of a Redis').choices(
          BACKENDS,
        ),
      )
      .option('--partition <name>', 'of Slurm')
      .option(
        '--time <limit>',
        "of each trial, as sbatch takes it; one that doesn't come to its end in it is queued again",
        checked(timeLimit),
      )
      .option('--array-limit <k>', 'trials at once on Slurm', wholeNumber)
      .option('--redis <url>', 'redis://[[USER]:PASSWORD@]HOST[:PORT] (default: REDIS_URL, or this machine)')
      .option('--cancel', 'end what Slurm or Redis have of this experiment, each with a checkpoint')
      .option('--cache <folder>', 'take trials that are there from it, each checked, and keep there what is trained')
      .option('--threads <n>', 'of each trial, on which no byte depends (default: the cores, shared out)', threadCount)
      .option(
        '--retries <n>',
        'how often a trial whose process was killed begins again, from its last checkpoint (default: 1)',
        checked(numberOfRetries),
      )
      .option('--runs <folder>', 'where runs are kept (default: experiments/runs)')
      .option('--save', 'keep the rows in experiments/results, where reports and notebooks read them')
      .option(
        '--bundle <file>',
        'pack all runs and their rows into one zip file, which `replay` takes, when they are done',
      )
      .option('--dry-run', 'list the trials and which of them are done, and train none'),
  );
  command.action(async (name: string | undefined, flags: ExperimentFlags) => {
    const experiment = name === undefined ? undefined : experiments.get(name);
    if (!experiment) {
      const meant = name === undefined ? undefined : nearest(name, experiments.keys());
      throw new UserError(
        `${name === undefined ? 'Which experiment?' : `Unknown experiment '${name}'${meant === undefined ? '' : `: did you mean '${meant}'?`}`} There are\n${list}`,
      );
    }
    const { takes, run } = experiment;
    const foreign = (Object.keys(flags) as (keyof ExperimentFlags)[]).find(
      flag => ![...takes, ...DATA_FLAGS].includes(flag),
    );
    if (foreign !== undefined)
      throw new UserError(
        `${name} has no use for --${foreign.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}${takes.length > 0 ? `: it takes ${takes.join(', ')}` : ''}.`,
      );
    await run(flags);
  });
}

/** Names of variants: those of sample rates hold commas themselves, so that where there are spaces these separate. */
function names(text: string): string[] {
  const all = text
    .trim()
    .split(text.trim().includes(' ') || /^\d(,\d){3}$/.test(text.trim()) ? /\s+/ : ',')
    .filter(Boolean);
  if (all.length === 0) throw new InvalidArgumentError('Names are expected, separated by commas.');
  return all;
}
