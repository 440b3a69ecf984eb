import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Batch, batches } from '../data/batches';
import type { Split } from '../data/dataset';
import { compile } from '../engine/compile/compile';
import type { Buffers, Model, Params } from '../model/module';
import { tf } from '../tensor/tf';
import { random } from '../util/random';
import {
  loadTraining,
  saveTraining,
  saveWeights,
  type TrainingState,
  type TrainProgress,
  weightsDigest,
} from './checkpoint';
import { evaluate } from './evaluate';
import type { DetailedEvaluation, Evaluation } from './metrics';
import type { TrainingPlan } from './plan';
import { learningRate } from './schedule';
import { evalStep, type StepDraw, type TrainStep } from './step';

export interface StepEvent {
  kind: 'step';
  /** Steps done, this one included. */
  step: number;
  /** The epoch it belongs to, from 1. */
  epoch: number;
  learningRate: number;
  /** Mean over the batch, label smoothing included. */
  loss: number;
}

export interface EpochEvent {
  kind: 'epoch';
  step: number;
  /** Epochs done, this one included. */
  epoch: number;
  /** Of the last step. */
  learningRate: number;
  /** Means over the epoch's batches, augmented and with drop path. */
  trainLoss: number;
  trainTop1: number;
  /** What it was evaluated on: the validation images, or the test images where there are none. */
  on: 'val' | 'test';
  evaluation: Evaluation;
  /** Whether no earlier epoch had a higher top-1. */
  best: boolean;
  /** Training only, without evaluation and without the step that traced the graph; null for an epoch resumed at its end. */
  imagesPerSecond: number | null;
}

export type TrainEvent = StepEvent | EpochEvent;

/** Training ran off: a loss that is no number, or larger than the recipe's `maxLoss`; also one on the images that an epoch ends with. */
export class DivergenceError extends Error {
  override name = 'DivergenceError';
  constructor(
    readonly step: number,
    readonly learningRate: number,
    what: string,
  ) {
    super(`Training diverged at step ${step}: ${what}, at learning rate ${learningRate}.`);
  }
}

export interface TrainerOptions {
  /** Weights to start from instead of fresh ones (`loadWeights`); the trainer takes them over. */
  init?: { params: Params; buffers: Buffers };
  /** A training checkpoint to resume from. */
  resume?: string;
  /** Threads that make batches (see `batches`); no result depends on it. */
  workers?: number;
}

/** A run in progress. Between two events it can be saved, and a run that resumes there computes the same bytes. */
export interface Trainer {
  readonly plan: TrainingPlan;
  readonly progress: Readonly<TrainProgress>;
  /**
   * Trains to the end, or until the signal: then it stops after the step, or the batch of an evaluation, under way. Throws
   * DivergenceError. Can be called again to resume.
   */
  events(signal?: AbortSignal): AsyncGenerator<TrainEvent>;
  /** The test images, by the weights as they are. Undefined when the signal stopped it. */
  test(signal?: AbortSignal): Promise<DetailedEvaluation | undefined>;
  /** Writes a checkpoint to resume from. */
  save(path: string): void;
  /** Writes the weights that evaluation uses: the moving average, where the recipe has one. */
  saveWeights(path: string): void;
  /** sha256 of the weights that training continues with. */
  digest(): string;
  dispose(): void;
}

/** Prepares a run. Throws UserError where the checkpoint is of another run. */
export function createTrainer(plan: TrainingPlan, { init, resume, workers }: TrainerOptions = {}): Trainer {
  const { recipe, dataset, model, step: training, stepsPerEpoch } = plan;
  const { batch: batchSize, epochs, seed, augment } = recipe;
  const { classes, train } = dataset;
  const order = { batchSize, dropLast: true };
  const step = compile(training.run, { name: 'the training step' });
  const evalLogits = compile(evalStep(model), { name: 'the evaluation step' });
  const noise = random(seed).fork('dropPath');
  let current: TrainingState = resume
    ? loadTraining(resume, model, { ...training, ema: recipe.ema > 0 })
    : begin(training, init ?? model.init(recipe.seed));
  let traced = false;
  let lastEvaluation: { split: Split; step: number; evaluation: DetailedEvaluation } | undefined;

  /** One step on a batch. The old state is freed; what is new is kept. */
  function advance(batch: Batch, lr: number): { loss: number; correct: number } {
    const { params, state, progress } = current;
    const [height, width] = model.inputSize;
    const images = tf.tensor4d(batch.images, [batchSize, height, width, 3]);
    const targets = tf.tensor2d(widen(batch.targets, classes.length, model.numClasses), [batchSize, model.numClasses]);
    const draw = drawFor(progress.step, lr);
    const result = step(params, state, { images, targets }, draw);
    const loss = result.loss.dataSync()[0];
    const correct = result.correct.dataSync()[0];
    tf.dispose([params, state, images, targets, draw, result.loss, result.correct]);
    current = { params: result.params, state: result.state, progress };
    return { loss, correct };
  }

  /** Drop path noise and scalars of the step after `done` steps: of the seed and the step alone, so that a resumed run draws the same. */
  function drawFor(done: number, lr: number): StepDraw {
    const rng = noise.fork(done);
    const values = Float32Array.from({ length: model.dropPathSites * batchSize }, () => rng.uniform());
    return training.draw(done + 1, lr, tf.tensor2d(values, [model.dropPathSites, batchSize]));
  }

  /** Weights for evaluation and export (EMA if enabled). */
  function served(): { params: Params; buffers: Buffers } {
    const { params, state } = current;
    if (recipe.ema === 0) return { params, buffers: state.buffers };
    const pick = (specs: Model['params']) => Object.fromEntries(specs.map(({ name }) => [name, state.ema[name]]));
    return { params: pick(model.params), buffers: pick(model.buffers) };
  }

  async function evaluateOn(split: Split, signal?: AbortSignal): Promise<DetailedEvaluation | undefined> {
    const { step: done } = current.progress;
    if (lastEvaluation?.split === split && lastEvaluation.step === done) return lastEvaluation.evaluation;
    const { params, buffers } = served();
    const evaluation = await evaluate(evalLogits, model, params, buffers, split, {
      batchSize: Math.max(batchSize, EVAL_BATCH),
      augment,
      classes,
      workers,
      signal,
    });
    if (evaluation && !Number.isFinite(evaluation.loss)) {
      const lr = learningRate(Math.max(0, done - 1), stepsPerEpoch, recipe);
      const images = split === dataset.test ? 'test' : 'validation';
      throw new DivergenceError(done, lr, `the loss on the ${images} images is ${evaluation.loss}`);
    }
    if (evaluation) lastEvaluation = { split, step: done, evaluation };
    return evaluation;
  }

  async function* events(signal?: AbortSignal): AsyncGenerator<TrainEvent> {
    while (current.progress.epoch < epochs) {
      const { epoch } = current.progress;
      const watch = stopwatch();
      const from = current.progress.step - epoch * stepsPerEpoch;
      let lr = learningRate(current.progress.step - 1, stepsPerEpoch, recipe); // reported if no step of the epoch is left
      for await (const batch of batches(train, {
        ...order,
        size: model.inputSize,
        augment,
        seed,
        epoch,
        shuffle: true,
        from,
        workers,
      })) {
        await nextTurn(); // signals are delivered between turns
        if (signal?.aborted) return;
        lr = learningRate(current.progress.step, stepsPerEpoch, recipe);
        const { loss, correct } = advance(batch, lr);
        const { progress } = current;
        progress.step++;
        progress.lossSum += loss;
        progress.correct += correct;
        if (!(loss <= recipe.maxLoss))
          throw new DivergenceError(
            progress.step,
            lr,
            `the loss is ${loss}, and ${recipe.maxLoss} is the limit (maxLoss)`,
          );
        if (traced) watch.lap(batchSize);
        traced = true;
        yield { kind: 'step', step: progress.step, epoch: epoch + 1, learningRate: lr, loss };
        watch.restart();
      }
      const evaluation = await evaluateOn(dataset.val ?? dataset.test, signal);
      if (!evaluation) return;
      yield finishEpoch(evaluation, lr, watch.rate());
    }
  }

  function finishEpoch(evaluation: Evaluation, lr: number, imagesPerSecond: number | null): EpochEvent {
    const { progress } = current;
    const { lossSum, correct } = progress;
    const best = evaluation.top1 > (progress.best?.top1 ?? -1);
    progress.epoch++;
    Object.assign(progress, { lossSum: 0, correct: 0 });
    if (best) progress.best = { epoch: progress.epoch, top1: evaluation.top1 };
    return {
      kind: 'epoch',
      step: progress.step,
      epoch: progress.epoch,
      learningRate: lr,
      trainLoss: lossSum / stepsPerEpoch,
      trainTop1: correct / (stepsPerEpoch * batchSize),
      on: dataset.val ? 'val' : 'test',
      evaluation,
      best,
      imagesPerSecond,
    };
  }

  return {
    plan,
    get progress() {
      return current.progress;
    },
    events,
    test: signal => evaluateOn(dataset.test, signal),
    save: path => saveTraining(path, model, current),
    saveWeights(path) {
      const { params, buffers } = served();
      saveWeights(path, model, params, buffers, current.progress.step);
    },
    digest: () => weightsDigest(model, current.params, current.state.buffers),
    dispose() {
      tf.dispose([current.params, current.state]);
      step.dispose();
      evalLogits.dispose();
    },
  };
}

/** Small training batches are no reason to evaluate slowly: logits do not depend on the batch. */
const EVAL_BATCH = 16;

function begin({ initialState }: TrainStep, init: { params: Params; buffers: Buffers }): TrainingState {
  const state = initialState(init.params, init.buffers);
  tf.dispose(init.buffers);
  return { params: init.params, state, progress: { step: 0, epoch: 0, lossSum: 0, correct: 0, best: null } };
}

/** [n, from] → [n, to], zeros appended: a model may have more outputs than there are classes. */
function widen(rows: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return rows;
  const wide = new Float32Array((rows.length / from) * to);
  for (let i = 0; i * from < rows.length; i++) wide.set(rows.subarray(i * from, (i + 1) * from), i * to);
  return wide;
}

/** Images per second over its laps. What lies between the end of a lap and `restart` does not count. */
function stopwatch(): { lap(images: number): void; restart(): void; rate(): number | null } {
  let since = performance.now();
  let seconds = 0;
  let total = 0;
  return {
    lap(images) {
      seconds += (performance.now() - since) / 1000;
      total += images;
    },
    restart() {
      since = performance.now();
    },
    rate: () => (total > 0 ? total / seconds : null),
  };
}
