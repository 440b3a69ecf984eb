import type { Command } from 'commander';
import { withSide } from '../data/cache/side';
import { DATASET_SPECS } from '../data/open';
import { openEngine } from '../engine/open';
import { parseSettings } from '../model/config';
import { MODELS } from '../model/registry';
import { writeReport } from '../report/runReport';
import { consoleReporter, type Reporter } from '../runs/console';
import { adoptModel, initFile } from '../runs/init';
import { absoluteData } from '../runs/portable';
import { PUBLISHED, publishedWeights } from '../runs/published';
import { type KeptDataOptions, openRun, RUNS, type Run } from '../runs/store';
import { resumeTrial, startTrial } from '../runs/trial';
import { openPlan } from '../train/plan';
import { applySettings, DEFAULT_RECIPE, namedRecipe, RECIPES, resolveRecipe } from '../train/recipe';
import { UserError } from '../util/errors';
import { defined } from '../util/records';
import { ROOT } from '../util/root';
import { setThreads } from '../util/threads';
import { threadCount, withDataOptions } from './support/dataOptions';
import { finish, interruption } from './support/training';

/** Options that are a recipe's keys, under the same name: `--lr=0.001` is `--set lr=0.001`. */
const SHORTHANDS = {
  model: MODELS.join(', '),
  ablation: 'what is taken away from or changed in an EdgeViT',
  data: DATASET_SPECS,
  size: 'side of the images in pixels, or HEIGHTxWIDTH',
  epochs: 'passes over the training images',
  batch: 'images per step',
  lr: 'learning rate after warm-up',
  seed: 'of weights, order, augmentation and drop path',
  freeze:
    'modules or parameters that keep their weights, batch norms their statistics: blocks1,patch_embed*; *,!head trains the head alone',
} as const;

type Shorthand = keyof typeof SHORTHANDS;

interface TrainFlags extends Partial<Record<Shorthand, string>>, KeptDataOptions {
  recipe?: string;
  set: string[];
  name?: string;
  init?: string;
  weights?: string;
  resume?: string;
  force?: boolean;
  threads?: number;
  runs: string;
}

/** `npm run train -- …`: trains a network into a run folder, or resumes one. */
export function register(program: Command): void {
  const command = program.command('train').description('train a network into a run folder, or resume one');
  for (const [name, description] of Object.entries(SHORTHANDS)) command.option(`--${name} <value>`, description);
  command
    .option(
      '--recipe <name>',
      `where all settings begin: ${Object.entries(RECIPES)
        .map(([name, { about }]) => `${name} (${about})`)
        .join('; ')} (default: ${DEFAULT_RECIPE})`,
    )
    .option(
      '--set <key=value>',
      'any other setting of the recipe, the augmentation (augment.flip=0) or the model (sampleRates=2,2,2,1); repeatable',
      (value: string, all: string[]) => [...all, value],
      [],
    )
    .option('--name <name>', 'of the run (default: made of model, data, size and seed)')
    .option(
      '--init <file|run>',
      'weights to begin with: a run by name or folder, or a file that `import` reads (.safetensors, .pth, .pt); a head for other classes is left',
    )
    .option(
      '--weights <name>',
      `published weights to begin with, downloaded once: ${Object.keys(PUBLISHED).join(', ')} (EasyCV's, of ImageNet)`,
    )
    .option('--resume <run>', 'resume a run, given by name or folder, to the same bytes')
    .option(
      '--force',
      'with --resume: also where numerics, engine or packages decide other bytes (the run tells where), or where it ran in a machine or container that is gone',
    )
    .option(
      '--threads <n>',
      'of TensorFlow inside an op, on which no byte depends (default: one per core)',
      threadCount,
    )
    .option('--runs <folder>', 'where runs are kept', RUNS);
  withDataOptions(command).action(async (flags: TrainFlags) => finish(await train(flags), flags.runs));
}

async function train(flags: TrainFlags): Promise<Run> {
  if (flags.threads !== undefined) setThreads(flags.threads); // before the engine is opened
  const { recipe: recipeName = DEFAULT_RECIPE, runs, name, flowers102Dir, cacheDir, side, decode, strict } = flags;
  const shorthands = (Object.keys(SHORTHANDS) as Shorthand[]).flatMap(key => {
    const value = flags[key];
    return value === undefined ? [] : [[key, value] as const];
  });
  const settings = { ...Object.fromEntries(shorthands), ...parseSettings(flags.set) };
  if (settings.data !== undefined) settings.data = absoluteData(settings.data);
  const options = {
    reporter: consoleReporter(),
    interruption,
    writeReport,
  };
  const given = defined({ flowers102Dir, cacheDir, side, decode, strict });
  if (flags.resume !== undefined) {
    const run = openRun(runs, flags.resume);
    checkUnchanged(run, settings, flags);
    await openEngine({ announce: true });
    return resumeTrial(run, { ...options, data: given, force: flags.force });
  }
  if (flags.force) throw new UserError('--force belongs to --resume, and there is no run to resume.');
  const { about, options: base } = namedRecipe(recipeName);
  const reporter = options.reporter;
  let asked = applySettings({ ...base, data: absoluteData(base.data, ROOT) }, settings);
  const init = await beginning(flags, reporter);
  if (init !== undefined) {
    const { options: fitting, adopted } = await adoptModel(init, asked, { modelSaid: 'model' in settings });
    asked = fitting;
    reporter.say(`weights ${init}: ${adopted}`);
  }
  const recipe = resolveRecipe(asked);
  await openEngine({ announce: true });
  const data = withSide(given, recipe.size);
  return startTrial({
    ...options,
    plan: await openPlan(recipe, data),
    data,
    recipeName,
    about,
    runs,
    name,
    init,
  });
}

/** The file of weights that a training begins with, where it doesn't begin afresh. */
async function beginning({ init, weights, runs }: TrainFlags, reporter: Reporter): Promise<string | undefined> {
  if (init !== undefined && weights !== undefined)
    throw new UserError('--init and --weights both say what to begin with: give one of them.');
  if (weights !== undefined) return publishedWeights(weights, { say: line => reporter.say(line) });
  return init === undefined ? undefined : initFile(runs, init);
}

/** A run resumes with its own settings; others, where given, must be the same. */
function checkUnchanged(
  { record }: Run,
  settings: Record<string, string>,
  { recipe, name, init, weights, runs }: TrainFlags,
): void {
  const refuse = (key: string, own: unknown, given: unknown): never => {
    throw new UserError(
      `The run '${record.name}' resumes with its own settings: its ${key} is ${JSON.stringify(own)}, not ${JSON.stringify(given)}.`,
    );
  };
  const resolved = resolveRecipe(record.recipe); // with the settings that came after it was written
  const before = { ...resolved, data: absoluteData(resolved.data) };
  for (const [key, value] of Object.entries(resolveRecipe(applySettings(before, settings)))) {
    const own = before[key as keyof typeof before];
    if (JSON.stringify(value) !== JSON.stringify(own)) refuse(key, own, value);
  }
  if (recipe !== undefined && recipe !== record.recipeName) refuse('recipe', record.recipeName, recipe);
  if (name !== undefined && name !== record.name) refuse('name', record.name, name);
  if (init !== undefined && initFile(runs, init) !== record.init?.path) refuse('init', record.init?.path ?? null, init);
  if (weights !== undefined)
    throw new UserError(
      `--weights=${weights} says what to begin with, and the run '${record.name}' has begun: leave it out to resume.`,
    );
}
