import { relative } from 'node:path';
import { parseSettings } from '../lib/config';
import { oneOf, UserError } from '../lib/errors';
import { duration, percent } from '../lib/lab/console';
import { textTable, thousands } from '../lib/lab/results';
import type { MeanInterval } from '../lib/lab/statistics';
import { runSweep, type Sweep, type TrialOutcome } from '../lib/lab/sweep';
import { byVariant, isClear, resultsFile, type TrialResult } from '../lib/lab/trialResults';
import { applySettings, type RecipeOptions } from '../lib/train/recipes';
import type { Experiment } from './experiment';
import { interruption } from './train';

/**
 * What variants have in common unless they say otherwise: short, for networks of any kind and pictures of any kind. Without drop path,
 * which not all networks have. Fixed here, so that a better recipe elsewhere does not end the comparison with earlier rows.
 */
export const SHORT = {
  model: 'edgevit-xxs', data: 'petals', size: 64, epochs: 12, batch: 16,
  dropPath: 0, lr: 1e-3, weightDecay: 0.05, warmupEpochs: 1, labelSmoothing: 0.1,
  augment: { randomCrop: [0.6, 1], flip: 0.5, jitter: 0.2 },
} satisfies RecipeOptions;

interface Definition extends Omit<Sweep, 'seeds'> {
  /** It begins the name of the file of results. */
  name: string;
  about: string;
  /** The variant that the others are compared with. */
  baseline: string;
}

const SEEDS = 3;

/** An experiment that trains variants of a recipe: a line for each trial, and a table at the end. */
export function sweepExperiment({ name, about, base, baseline, variants }: Definition): Experiment {
  return {
    about,
    async run({ seeds = SEEDS, only, data, size, epochs, ...dataOptions }) {
      const settings = Object.entries({ data, size, epochs }).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]));
      const sweep = { base: applySettings(base, parseSettings(settings)), variants: chosen(name, variants, only), seeds };
      const rows = await runSweep(sweep, {
        data: dataOptions,
        signal: interruption(),
        fileOf: dataset => resultsFile(name, dataset),
        onStart(dataset, trials, file) {
          console.log(`${dataset.name}: ${dataset.description}`);
          console.log(`${trials} trials, ${Object.keys(sweep.variants).length} variants × ${seeds} seeds, of ${sweep.base.epochs} epochs at ${String(sweep.base.size)} px | results in ${relative(process.cwd(), file)}`);
        },
        onTrial: line(Object.keys(sweep.variants)),
      });
      if (rows) {
        console.log(`\n${formatVariants(rows, baseline)}`);
        return;
      }
      console.log('Interrupted. The same command goes on with the trial that was under way.');
      process.exitCode = 130;
    },
  };
}

/** The variants that `--only` names, in the experiment's order. */
function chosen(name: string, variants: Sweep['variants'], only?: readonly string[]): Sweep['variants'] {
  const unknown = only?.find(variant => !Object.hasOwn(variants, variant));
  if (unknown !== undefined) throw new UserError(`${name} has no variant '${unknown}': allowed are ${oneOf(Object.keys(variants))}.`);
  return Object.fromEntries(Object.entries(variants).filter(([variant]) => only === undefined || only.includes(variant)));
}

/** One line for each trial; a failed one sets the exit status. */
function line(variants: readonly string[]): (outcome: TrialOutcome) => void {
  const width = Math.max(...variants.map(variant => variant.length));
  return outcome => {
    const begin = `${outcome.variant.padEnd(width)} seed ${outcome.seed} |`;
    if ('error' in outcome) {
      console.log(`${begin} failed: ${outcome.error}`);
      process.exitCode = 1;
      return;
    }
    const { row: { top1, loss, imagesPerSecond }, known, seconds } = outcome;
    const pace = known ? 'known already' : `${imagesPerSecond === null ? '' : `${imagesPerSecond} img/s | `}${duration(seconds)}`;
    console.log(`${begin} top-1 ${percent(top1)} | loss ${loss.toFixed(3)} | ${pace}`);
  };
}

function formatVariants(rows: readonly TrialResult[], baseline: string): string {
  if (rows.length === 0) return 'No trial came to its end.';
  const table = byVariant(rows, baseline).map(({ variant, params, macs, top1, difference }) => ({
    variant, params: thousands(params), macs: `${(macs / 1e6).toFixed(1)} M`, seeds: String(top1.count), top1: interval(top1),
    difference: difference ? interval(difference, true) : '–', clear: difference ? (isClear(difference) ? 'yes' : 'no') : '–',
  }));
  const columns = { variant: 'variant', params: 'params', macs: 'MACs', seeds: 'seeds', top1: 'top-1, %', difference: `less ${baseline}, points`, clear: 'clear' };
  return `${textTable(columns, table)}\n\nMeans over seeds ± half of the 95 % interval, by Student's t distribution. Differences are taken seed by seed;\n`
    + 'clear are those whose interval leaves out zero. The intervals hold what seeds change, not the choice of test pictures.';
}

/** In per cent. */
function interval({ mean, half }: MeanInterval, signed = false): string {
  const value = (100 * mean).toFixed(1);
  return `${signed && mean >= 0 ? '+' : ''}${value.replace('-', '−')}${half === null ? '' : ` ± ${(100 * half).toFixed(1)}`}`;
}
