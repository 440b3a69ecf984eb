import type { Dataset } from '../data/dataset';
import { openDataset } from '../data/open';
import { countConfig, totalCount } from '../measure/count';
import { median } from '../measure/latency';
import { buildModel, resolveRecipe, type Recipe, type RecipeOptions } from '../train/recipes';
import { createTrainer, DivergenceError } from '../train/train';
import { environment } from './environment';
import type { KeptDataOptions } from './runs';
import { addResult, readResults, trialDigests, type TrialResult } from './trialResults';

/** Variants of one recipe, each trained with every seed: equal data, steps and augmentation for all. */
export interface Sweep {
  base: RecipeOptions;
  /** What each variant changes, by its name. */
  variants: Readonly<Record<string, Partial<RecipeOptions>>>;
  /** Seeds 0 … seeds − 1. */
  seeds: number;
}

export interface SweepOptions {
  data?: KeptDataOptions;
  /** Ends the sweep after the step under way; the trial that it breaks off is begun again the next time. */
  signal: AbortSignal;
  /** Of the results of a dataset. */
  fileOf(data: string): string;
  /** Called before the first trial, and after each: one was trained, one was known already, or one failed. */
  onStart(dataset: Dataset, trials: number, file: string): void;
  onTrial(outcome: TrialOutcome): void;
}

export type TrialOutcome = { variant: string; seed: number } & ({ row: TrialResult; known: boolean; seconds: number } | { error: string });

/**
 * Trains what the results do not have yet, seed by seed, so that one which is broken off has seen all variants alike. Each row is
 * written as soon as it is known. A network that diverges is told and left out; the rest goes on. Returns the sweep's rows, or
 * undefined when the signal ended it. Throws UserError for what cannot begin.
 *
 * Trials leave no run folders, as writing checkpoints would take longer than many of their epochs. Equal recipes give equal bytes, so
 * that `npm run train` makes a row's run folder again.
 */
export async function runSweep({ base, variants, seeds }: Sweep, { data, signal, fileOf, onStart, onTrial }: SweepOptions): Promise<TrialResult[] | undefined> {
  const trials = Array.from({ length: seeds }, (_, seed) => seed).flatMap(seed =>
    Object.entries(variants).map(([variant, changes]) => ({ variant, seed, recipe: resolveRecipe({ ...base, ...changes, seed }) })));
  const dataset = await openDataset(base.data, data);
  const file = fileOf(dataset.name);
  const known = new Map(readResults(file).map(row => [row.trial, row]));
  onStart(dataset, trials.length, file);
  const rows: TrialResult[] = [];
  for (const { variant, seed, recipe } of trials) {
    const digests = trialDigests(recipe, dataset.fingerprint);
    const earlier = known.get(digests.trial);
    const start = performance.now();
    try {
      const row = earlier ? { ...earlier, variant } : await runTrial(recipe, dataset, signal, { variant, ...digests });
      if (!row) return undefined;
      if (!earlier) addResult(file, row);
      rows.push(row);
      onTrial({ variant, seed, row, known: earlier !== undefined, seconds: (performance.now() - start) / 1000 });
    } catch (error) {
      if (!(error instanceof DivergenceError)) throw error;
      onTrial({ variant, seed, error: error.message });
    }
  }
  return rows;
}

async function runTrial(recipe: Recipe, dataset: Dataset, signal: AbortSignal, identity: Pick<TrialResult, 'variant' | 'trial' | 'budget'>): Promise<TrialResult | undefined> {
  const model = buildModel(recipe, dataset.classes.length);
  const trainer = createTrainer({ model, dataset, recipe });
  try {
    const curve: number[] = [];
    const rates: number[] = [];
    for await (const event of trainer.events(signal)) {
      if (event.kind === 'step') continue;
      curve.push(event.evaluation.top1);
      if (event.imagesPerSecond !== null) rates.push(event.imagesPerSecond);
    }
    const evaluation = trainer.progress.epoch === recipe.epochs ? await trainer.test(signal) : undefined;
    if (!evaluation) return undefined;
    const [height, width] = model.inputSize;
    const { params, macs } = totalCount(countConfig(model));
    const { engine, cpu } = environment();
    return {
      ...identity, seed: recipe.seed, data: dataset.name, train: dataset.train.length, test: dataset.test.length, classes: dataset.classes.length,
      model: model.name, height, width, epochs: recipe.epochs, batch: recipe.batch, params, macs,
      top1: evaluation.top1, top5: evaluation.top5, loss: evaluation.loss, curve: curve.map(value => round(value, 4)),
      imagesPerSecond: rates.length > 0 ? round(median(rates), 1) : null,
      weights: trainer.digest().slice(0, 16), engine, cpu,
    };
  } finally {
    trainer.dispose();
  }
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));
