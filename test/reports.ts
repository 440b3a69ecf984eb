import type { TrialResult } from '../lib/lab/trialResults';

/** A row of results, made up but for what is given. */
export function trialRow(variant: string, seed: number, top1: number, more: Partial<TrialResult> = {}): TrialResult {
  return {
    variant, seed, top1, trial: `${variant}-${seed}`, budget: 'a', data: 'flowers12', train: 720, test: 240, classes: 12, model: 'edgevit-xxs', height: 96, width: 96, epochs: 3,
    batch: 16, params: 4e6, macs: 1e8, top5: 1, loss: 1, curve: [top1 / 3, top1 / 2, top1], imagesPerSecond: 100, weights: '', engine: 'TensorFlow', cpu: 'a processor', ...more,
  };
}
