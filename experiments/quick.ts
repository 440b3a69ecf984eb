import type { Experiment } from '../lib/cli/support/experiments';
import { finish, interruption } from '../lib/cli/support/training';
import { openEngine } from '../lib/engine/open';
import { writeReport } from '../lib/report/runReport';
import { consoleReporter } from '../lib/runs/console';
import { RUNS } from '../lib/runs/store';
import { startTrial } from '../lib/runs/trial';
import { openPlan } from '../lib/train/plan';
import { applySettings, namedRecipe, resolveRecipe } from '../lib/train/recipe';

/** What pure JavaScript manages in about a minute. It shows that all of it works, and no more. */
const PURE_JAVASCRIPT = { data: 'petals:classes=3,train=8,test=8', size: '32', batch: '4', epochs: '2' };

/**
 * Does all of it work here? EdgeViT-XXS on synthetic flowers, from nothing to a table, a learning curve and a page.
 *
 * `npm start`, or `npm run experiment -- quick`. Under 4 minutes on 2 cores.
 *
 * Promises a run folder. Synthetic flowers show that the network learns; they prove nothing about photographs.
 */
export const experiment: Experiment = {
  question: 'does all of it work here?',
  cost: '2 to 4 min',
  promise: 'a run folder with a table, a learning curve and a page',
  takes: [],
  async run() {
    const reporter = consoleReporter();
    const { about, options } = namedRecipe('petals');
    const native = (await openEngine({ announce: true })).kind !== 'js';
    if (!native)
      reporter.say(
        'Without TensorFlow the demonstration shrinks to a few steps, which are too few to learn from: see above for what is missing.',
      );
    const recipe = resolveRecipe(native ? options : applySettings(options, PURE_JAVASCRIPT));
    const plan = await openPlan(recipe);
    finish(await startTrial({ plan, recipeName: 'petals', about, reporter, interruption, writeReport }), RUNS);
  },
};
