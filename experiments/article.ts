import { sweepExperiment } from '../lib/cli/support/sweepExperiment';
import { formatSummary, summarise } from '../lib/measure/summary';
import { createModel } from '../lib/model/registry';
import { RECIPES } from '../lib/train/recipe';

/**
 * Does the teaching article's model learn as the article has it? Its summary, layer by layer, and its recipe: Paddle's swapped split of Flowers-102,
 * which trains on 6,149 images, one at a time, for 2 epochs.
 *
 * `npm run experiment -- article`. One seed: about 40 min on 2 cores, and a download of 345 MB the first time.
 *
 * Promises the article's table, and top-1 on the 1,020 images that it tests with.
 */
export const experiment = sweepExperiment({
  name: 'article',
  title: 'The tutorial model by its own recipe',
  question: "does the teaching article's model learn as the article has it?",
  cost: 'about 40 min, and a download of 345 MB',
  promise: "the article's summary, and top-1 of its recipe",
  base: RECIPES.article.options,
  baseline: 'article',
  variants: { article: {} },
  seeds: 1,
  preface: () =>
    formatSummary(
      summarise(
        createModel('article', { numClasses: RECIPES.article.options.outputs, size: RECIPES.article.options.size }),
        1,
      ),
    ),
});
