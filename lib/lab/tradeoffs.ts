import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { compile } from '../engine/graph';
import { tf, type Tensor } from '../engine/tf';
import { UserError } from '../errors';
import { writeFileAtomic } from '../files';
import { countConfig, totalCount } from '../measure/count';
import { bootstrap, interleave, median, stopwatch, type Plan } from '../measure/latency';
import { createModel } from '../models';
import type { Model } from '../module';
import { random } from '../random';
import { evalStep } from '../train/step';
import { environment } from './environment';
import { RESULTS } from './trialResults';

/** The networks that are compared, with the outputs that each is published with. */
export const COMPARED = { 'edgevit-xxs': 1000, 'edgevit-xs': 1000, 'edgevit-s': 1000, 'article': 103, 'mobilenet-v2': 1000, 'vit-tiny': 1000 } as const;

const positive = z.number().positive();

const schema = z.strictObject({
  /** What the times were taken on: they compare among each other, and with none of another machine. */
  machine: z.strictObject({ cpu: z.string(), cores: z.number().int(), engine: z.string(), node: z.string() }),
  size: z.tuple([positive, positive]),
  models: z.array(z.strictObject({
    model: z.string(),
    classes: z.number().int(),
    params: positive,
    /** Per picture. */
    macs: positive,
    /** Of one picture, from host memory to logits in host memory: the median over rounds, and the bootstrap's 95 % interval. */
    milliseconds: z.strictObject({ value: positive, low: positive, high: positive }),
  })),
});

export type Tradeoffs = z.infer<typeof schema>;

export const TRADEOFFS_FILE = join(RESULTS, 'tradeoffs.json');

const PLAN: Plan = { rounds: 15, perRound: 10, warmUp: 10, settle: 3 };

/**
 * Counts networks, and times one prediction of each, compiled with constant weights, in turns (`interleave`). The weights are
 * random, on which no time depends. Throws UserError for names and sizes that do not exist or fit.
 */
export async function measureTradeoffs(models: Readonly<Record<string, number>>, size: readonly [number, number], plan = PLAN): Promise<Tradeoffs> {
  const built = Object.entries(models).map(([name, numClasses]) => createModel(name, { numClasses, size }));
  const predictions = built.map(prediction);
  try {
    const seconds = await interleave(predictions, plan);
    const { cpu, cores, engine, node } = environment();
    return {
      machine: { cpu: cpu.trim(), cores, engine, node },
      size: [...size],
      models: built.map((model, i) => {
        const { params, macs } = totalCount(countConfig(model));
        const { value, low, high } = bootstrap(seconds[i].map(round => 1000 * median(round)), median);
        return { model: model.name, classes: model.numClasses, params, macs, milliseconds: { value: round(value), low: round(low), high: round(high) } };
      }),
    };
  } finally {
    for (const each of predictions) each.dispose();
  }
}

/** Microseconds are beyond the clock of a machine that does something else too. */
const round = (milliseconds: number): number => Number(milliseconds.toFixed(2));

function prediction(model: Model) {
  const [height, width] = model.inputSize;
  const rng = random('a picture');
  const pixels = Float32Array.from({ length: height * width * 3 }, () => 4 * rng.uniform() - 2);
  const { params, buffers } = model.init(0);
  const logits = evalStep(model);
  const predict = compile((images: Tensor) => logits(params, buffers, images), { capture: 'constant', name: model.name });
  const work = (): void => {
    const images = tf.tensor4d(pixels, [1, height, width, 3]);
    const output = predict(images);
    output.dataSync();
    tf.dispose([images, output]);
  };
  const dispose = (): void => {
    predict.dispose();
    tf.dispose([params, buffers]);
  };
  return { ...stopwatch(model.name, work), dispose };
}

export function writeTradeoffs(tradeoffs: Tradeoffs): void {
  const { models, ...rest } = tradeoffs;
  const rows = models.map(row => `    ${JSON.stringify(row)}`).join(',\n');
  writeFileAtomic(TRADEOFFS_FILE, `${JSON.stringify(rest, null, 2).slice(0, -2)},\n  "models": [\n${rows}\n  ]\n}\n`);
}

/** What was measured last. Throws UserError where there is nothing, or something else. */
export function readTradeoffs(): Tradeoffs {
  if (!existsSync(TRADEOFFS_FILE)) throw new UserError(`There is no ${TRADEOFFS_FILE}: npm run experiment -- tradeoffs measures it.`);
  const { success, data, error } = schema.safeParse(JSON.parse(readFileSync(TRADEOFFS_FILE, 'utf8')));
  if (!success) throw new UserError(`${TRADEOFFS_FILE} holds something else: ${error.issues[0].path.join('.')}: ${error.issues[0].message}.`);
  return data;
}
