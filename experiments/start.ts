import type { Command } from 'commander';
import { native } from '../lib/engine/tf';
import { consoleReporter } from '../lib/lab/console';
import { RUNS } from '../lib/lab/runs';
import { startTrial } from '../lib/lab/trial';
import { applySettings, namedRecipe, resolveRecipe } from '../lib/train/recipes';
import { finish, interruption } from './train';

/** What pure JavaScript manages in about a minute. It shows that all of it works, and no more. */
const PURE_JAVASCRIPT = { data: 'petals:classes=3,train=8,test=8', size: '32', batch: '4', epochs: '2' };

/** `npm start`: EdgeViT-XXS on drawn flowers, from nothing to a table, a learning curve and a page. Under 4 minutes on 2 cores. */
export function register(program: Command): void {
  program
    .command('start')
    .description('train EdgeViT-XXS on drawn flowers, as a demonstration')
    .action(async () => {
      const reporter = consoleReporter();
      const { about, options } = namedRecipe('petals');
      if (!native) reporter.say('Without TensorFlow the demonstration shrinks to a few steps, which are too few to learn from: see above for what is missing.');
      const recipe = resolveRecipe(native ? options : applySettings(options, PURE_JAVASCRIPT));
      finish(await startTrial({ recipe, recipeName: 'petals', about, reporter, interruption }), RUNS);
    });
}
