import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { tf } from '../lib/tensor/tf';
import { withoutRandomness } from '../lib/train/evaluate';
import { createMeter } from '../lib/train/metrics';
import { planTraining } from '../lib/train/plan';
import { applySettings, namedRecipe, RECIPES, type Recipe, resolveRecipe, settingsOf } from '../lib/train/recipe';
import { createTrainer, DivergenceError, type EpochEvent, type TrainEvent, type Trainer } from '../lib/train/trainer';
import { UserError } from '../lib/util/errors';
import './allclose';
import { dataset, sha256, tinyRecipe } from './training';

const folder = mkdtempSync(join(tmpdir(), 'train-'));
const checkpoint = join(folder, 'checkpoint.safetensors');
afterAll(() => rmSync(folder, { recursive: true }));

const trainer = (recipe: Recipe, resume?: string): Trainer => createTrainer(planTraining(recipe, dataset), { resume });

/** Trains up to an event that `until` accepts, or to the end; gives the events and the bytes of the checkpoint then. */
async function run(
  recipe: Recipe,
  {
    resume,
    until = () => false,
    workers,
  }: { resume?: string; until?: (event: TrainEvent) => boolean; workers?: number } = {},
) {
  const training = createTrainer(planTraining(recipe, dataset), { resume, workers });
  const events: TrainEvent[] = [];
  for await (const event of training.events()) {
    events.push(event);
    if (until(event)) break;
  }
  training.save(checkpoint);
  const result = { events: events.map(timeless), digest: training.digest(), bytes: sha256(checkpoint) };
  training.dispose();
  return result;
}

function timeless(event: TrainEvent): object {
  if (event.kind === 'step') return event;
  const { imagesPerSecond: _, ...rest } = event;
  return rest;
}

describe('equal recipes', () => {
  test('give equal bytes, however many threads make the batches', async () => {
    const recipe = tinyRecipe();
    const [a, b] = [await run(recipe), await run(recipe, { workers: 0 })];
    expect(b).toEqual(a);
    expect(a.events.filter(event => 'evaluation' in event)).toHaveLength(2);
  });

  test('of other seeds give others', async () => {
    const [a, b] = [await run(tinyRecipe({ epochs: 1 })), await run(tinyRecipe({ epochs: 1, seed: 1 }))];
    expect(b.digest).not.toBe(a.digest);
  });
});

describe('interrupted and resumed is as if nothing had been', () => {
  const afterFirstStep = (event: TrainEvent) => event.step === 1;
  const inEpoch = (event: TrainEvent) => event.step === 4;
  const beforeEvaluation = (event: TrainEvent) => event.kind === 'step' && event.step === 6;
  const betweenEpochs = (event: TrainEvent) => event.kind === 'epoch';

  test.each([
    ['adamw, with all that has a memory', tinyRecipe(), [afterFirstStep, inEpoch, beforeEvaluation, betweenEpochs]],
    ['sgd', tinyRecipe({ optimizer: 'sgd', ema: 0 }), [inEpoch]],
  ])('%s', async (_name, recipe, stops) => {
    const whole = await run(recipe);
    const parts = [await run(recipe, { until: stops[0] })];
    for (const until of [...stops.slice(1), undefined]) parts.push(await run(recipe, { resume: checkpoint, until }));
    expect(parts.flatMap(({ events }) => events)).toEqual(whole.events);
    expect(parts.at(-1)).toMatchObject({ digest: whole.digest, bytes: whole.bytes });
  });

  test('a signal stops it after a step', async () => {
    const training = trainer(tinyRecipe());
    const controller = new AbortController();
    for await (const event of training.events(controller.signal)) if (event.step === 3) controller.abort();
    expect(training.progress).toMatchObject({ step: 3, epoch: 0 });
    training.dispose();
  });
});

describe('a run', () => {
  test('learns, evaluates by the moving average, and leaks nothing', async () => {
    const tensors = tf.memory().numTensors;
    const training = trainer(tinyRecipe({ epochs: 25, augment: {}, dropPath: 0, labelSmoothing: 0 }));
    const held = new Set<number>();
    const epochs: EpochEvent[] = [];
    for await (const event of training.events()) {
      if (event.kind === 'epoch') epochs.push(event);
      held.add(tf.memory().numTensors);
    }
    expect(held.size).toBe(1);
    expect(epochs.at(-1)!.trainLoss).toBeLessThan(0.5 * epochs[0].trainLoss);
    expect(training.progress.best!.top1).toBe(Math.max(...epochs.map(event => event.evaluation.top1)));
    training.dispose();
    expect(tf.memory().numTensors).toBe(tensors);
  });

  test('may have more outputs than there are classes, as the article has', async () => {
    const recipe = resolveRecipe(
      applySettings(namedRecipe('article').options, {
        data: 'petals',
        size: '32',
        epochs: '1',
        batch: '2',
        outputs: '5',
      }),
    );
    const training = trainer(recipe);
    for await (const _ of training.events());
    const evaluation = (await training.test())!;
    expect(evaluation.confusion.map(row => row.length)).toEqual([5, 5, 5]);
    expect(evaluation.confusion.flat().reduce((a, b) => a + b)).toBe(dataset.test.length);
    training.dispose();
  });

  test('stops when its loss explodes', async () => {
    const training = trainer(tinyRecipe({ lr: 1e9, warmupEpochs: 0, clip: 0 }));
    const error = await (async () => {
      for await (const _ of training.events());
    })().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(DivergenceError);
    expect(error).toMatchObject({ step: 2, learningRate: expect.any(Number) });
    expect(() => training.save(checkpoint)).toThrow(/not finite/);
    training.dispose();
  });

  test('needs images for a batch, and an output for each class', () => {
    expect(() => trainer(tinyRecipe({ batch: 100 }))).toThrow(UserError);
    expect(() => trainer(tinyRecipe({ outputs: 2 }))).toThrow(UserError);
  });
});

describe('recipes', () => {
  test.each(Object.keys(RECIPES))('%s resolves, and is told by its name alone', name => {
    expect(settingsOf(resolveRecipe(namedRecipe(name).options), name)).toEqual({});
  });

  test('are told by the settings in which they differ', () => {
    const recipe = resolveRecipe(
      applySettings(namedRecipe('flowers12').options, {
        lr: '5e-4',
        size: '64x96',
        sampleRates: '2,2,2,1',
        'augment.flip': '0',
        'augment.randomCrop': '[0.5,1]',
        ablation: 'delegateMean',
        data: 'petals:classes=4,noise=0',
      }),
    );
    expect(recipe).toMatchObject({
      lr: 5e-4,
      size: [64, 96],
      augment: { flip: 0, randomCrop: [0.5, 1] },
      modelSettings: { sampleRates: '2,2,2,1' },
    });
    expect(resolveRecipe(applySettings(namedRecipe('flowers12').options, settingsOf(recipe, 'flowers12')))).toEqual(
      recipe,
    );
  });

  test.each<Record<string, string>>([
    { lrate: '1' },
    { lr: '0' },
    { lr: 'fast' },
    { optimizer: 'adagrad' },
    { epochs: '1.5' },
    { batch: '0' },
    { model: 'edgevit' },
    { ablation: 'everything' },
    { size: '50' },
    { 'augment.flips': '1' },
    { 'augment.flip': '2' },
    { augment: '1' },
    { sampleRates: '4,2' },
    { seed: '-1' },
    { ema: '1' },
    { model: 'mobilenet-v2', dropPath: '0.1' },
    { modelSettings: '{}' },
  ])('do not take %o', setting => {
    expect(() => resolveRecipe(applySettings(namedRecipe('petals').options, setting))).toThrow(UserError);
  });

  test('evaluation takes what is not random of an augmentation', () => {
    expect(withoutRandomness(RECIPES.imagenet.options.augment)).toEqual({
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
      interpolation: 'bicubic',
      centerCrop: 0.875,
    });
  });
});

test('the meter counts what is right', () => {
  const meter = createMeter(['a', 'b', 'c'], 7);
  meter.add(Float32Array.of(3, 1, 0, 0, 0, 0, 0, /**/ 9, 1, 8, 7, 6, 5, 4), Int32Array.of(0, 1));
  meter.add(Float32Array.of(0, 0, 0, 0, 0, 0, 0), Int32Array.of(2));
  const { count, loss, top1, top5, perClass, confusion, predictions } = meter.result();
  expect({ count, top1, top5 }).toEqual({ count: 3, top1: 1 / 3, top5: 2 / 3 });
  const logSums = [
    Math.log(Math.exp(3) + Math.E + 5),
    Math.log([9, 1, 8, 7, 6, 5, 4].reduce((sum, z) => sum + Math.exp(z), 0)),
    Math.log(7),
  ];
  expect(loss).toBeAllclose((logSums[0] - 3 + logSums[1] - 1 + logSums[2]) / 3);
  expect(perClass.map(({ correct }) => correct)).toEqual([1, 0, 0]);
  expect(confusion.map(row => row.indexOf(1))).toEqual([0, 0, 0]);
  expect(predictions.labels).toEqual([0, 1, 2]);
  expect(predictions.top).toEqual([
    [0, 1, 2, 3, 4],
    [0, 2, 3, 4, 5],
    [0, 1, 2, 3, 4],
  ]);
  expect(predictions.probabilities[2]).toBeAllclose([1, 1, 1, 1, 1].map(share => share / 7));
});
