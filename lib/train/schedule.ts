import { cos } from '../util/elementary';

/** How the learning rate moves over a run. */
export interface ScheduleSettings {
  /** The learning rate after warm-up. */
  lr: number;
  schedule: 'constant' | 'cosine';
  /** Where the cosine ends. */
  minLr: number;
  /** Epochs of linear warm-up from 0 (EdgeViTs' main.py: 5). */
  warmupEpochs: number;
  epochs: number;
}

/**
 * The learning rate of step `step` (from 0): linear over the warm-up, then constant or half a cosine down to `minLr`
 * (Loshchilov & Hutter 2017). By step where the official code moves by epoch, so that a short run warms up smoothly too.
 */
export function learningRate(step: number, stepsPerEpoch: number, settings: ScheduleSettings): number {
  const { lr, schedule, minLr, warmupEpochs, epochs } = settings;
  const warmupSteps = warmupEpochs * stepsPerEpoch;
  if (step < warmupSteps) return (lr * (step + 1)) / warmupSteps;
  if (schedule === 'constant') return lr;
  const done = (step - warmupSteps) / (epochs * stepsPerEpoch - warmupSteps);
  return minLr + ((lr - minLr) * (1 + cos(Math.PI * Math.min(1, done)))) / 2;
}
