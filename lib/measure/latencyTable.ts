import { z } from 'zod';
import { hasGraphs } from '../engine/binding';
import { machine } from '../engine/machine';
import type { Model } from '../model/module';
import { architectureOf, createModel } from '../model/registry';
import { isNative } from '../tensor/tf';
import { UserError } from '../util/errors';
import { countConfig, totalCount } from './count';
import { predictionInJs } from './jsPrediction';
import { type Contender, type Estimate, interleave, type Plan, timeQuantile } from './latency';
import { prediction } from './prediction';

/** How a prediction can be run. */
export const ENGINES = {
  compiled: 'TensorFlow, as one graph with constant weights',
  eager: "TensorFlow, op by op, with the lab's kernels",
  onnx: 'the export in ONNX Runtime',
  'onnx-int8': 'the same, its matrices in 8 bits',
  wasm: "ONNX Runtime's WebAssembly, as browsers run it",
  js: 'pure JavaScript, in a process of its own',
} as const;

export type Engine = keyof typeof ENGINES;

/** Those that run what the lab exports. */
export type OnnxEngine = Extract<Engine, 'onnx' | 'onnx-int8' | 'wasm'>;

const ONNX_ENGINES: readonly Engine[] = ['onnx', 'onnx-int8', 'wasm'] satisfies OnnxEngine[];

const isOnnx = (engine: Engine): engine is OnnxEngine => ONNX_ENGINES.includes(engine);

type Timed = Contender & { dispose(): void };

const positive = z.number().positive();
const estimate = z.strictObject({ value: positive, low: positive, high: positive });

/** What times were taken on: they compare among each other, and with none of another machine. */
export const machineSchema = z.strictObject({
  cpu: z.string(),
  cores: z.number().int(),
  engine: z.string(),
  node: z.string(),
});

/** In milliseconds, with bootstrap 95 % intervals; null where there are too few timings to say. */
export const timesSchema = { milliseconds: estimate, p90: estimate.nullable(), p99: estimate.nullable() };

export type Machine = z.infer<typeof machineSchema>;

export interface Latency {
  model: string;
  engine: Engine;
  classes: number;
  params: number;
  /** Per image. */
  macs: number;
  /** How many runs were timed. */
  timings: number;
  /** Of one batch, from host memory to logits in host memory: the median, and how long the slowest tenth and hundredth take at least. */
  milliseconds: Estimate;
  p90: Estimate | null;
  p99: Estimate | null;
}

export interface Latencies {
  machine: Machine;
  size: readonly [height: number, width: number];
  batch: number;
  rows: Latency[];
}

export interface LatencyOptions {
  models: readonly string[];
  engines: readonly Engine[];
  size: readonly [number, number];
  batch?: number;
  plan?: Plan;
  jsPlan?: Plan;
  /** Opens a prediction by one of ONNX's engines (lib/export/prediction's `onnxPrediction`). */
  onnx?(model: Model, batch: number, engine: OnnxEngine): Promise<Timed>;
}

/** 300 timings of each: three of them are slower than the 99th percentile. */
export const PLAN: Plan = { rounds: 30, perRound: 10, warmUp: 10, settle: 3 };

/** Pure JavaScript is a hundred times slower, so that there are few rounds of it. */
export const JS_PLAN: Plan = { rounds: 5, perRound: 1, warmUp: 1, settle: 0 };

/**
 * Counts networks, and times a prediction of each by each engine, interleaved (`interleave`): all but those of pure JavaScript, and then these, whose seconds would cool the others' caches. Throws UserError for names and sizes that do not exist or fit, and
 * for engines that are not there.
 */
export async function measureLatency({
  models,
  engines,
  size,
  batch = 1,
  plan = PLAN,
  jsPlan = JS_PLAN,
  onnx,
}: LatencyOptions): Promise<Latencies> {
  checkEngines(engines);
  const built = models.map(name => createModel(name, { numClasses: architectureOf(name).classes, size }));
  const own = engines.filter((engine): engine is Exclude<Engine, 'js'> => engine !== 'js');
  const rows = await time(
    built.flatMap(model =>
      own.map(engine => ({
        model,
        engine,
        start: async () => {
          if (!isOnnx(engine)) return prediction(model, batch, engine === 'compiled');
          if (!onnx) throw new Error(`No predictions by ${engine} are provided.`);
          return onnx(model, batch, engine);
        },
      })),
    ),
    plan,
  );
  if (engines.includes('js')) {
    rows.push(
      ...(await time(
        built.map(model => ({
          model,
          engine: 'js' as const,
          start: () => predictionInJs({ model: model.name, numClasses: model.numClasses, size, batch }),
        })),
        jsPlan,
      )),
    );
  }
  const { cpu, cores, engine, node } = machine();
  return { machine: { cpu: cpu.trim(), cores, engine, node }, size, batch, rows };
}

function checkEngines(engines: readonly Engine[]): void {
  const missing = engines.find(engine => engine !== 'js' && !(engine === 'eager' ? isNative() : hasGraphs()));
  if (missing)
    throw new UserError(
      `The engine '${missing}' is not there (npm run doctor says why): --engines=js measures what is.`,
    );
}

interface Candidate {
  model: Model;
  engine: Engine;
  start(): Promise<Timed>;
}

async function time(candidates: readonly Candidate[], plan: Plan): Promise<Latency[]> {
  const started: Awaited<ReturnType<Candidate['start']>>[] = [];
  try {
    for (const { start } of candidates) started.push(await start());
    const seconds = await interleave(started, plan);
    return candidates.map(({ model, engine }, i) => row(model, engine, seconds[i]));
  } finally {
    for (const each of started) each.dispose();
  }
}

function row(model: Model, engine: Engine, seconds: readonly (readonly number[])[]): Latency {
  const { params, macs } = totalCount(countConfig(model));
  const milliseconds = (q: number): Estimate | null => {
    const found = timeQuantile(seconds, q);
    return found && { value: rounded(found.value), low: rounded(found.low), high: rounded(found.high) };
  };
  return {
    model: model.name,
    engine,
    classes: model.numClasses,
    params,
    macs,
    timings: seconds.flat().length,
    milliseconds: milliseconds(0.5)!,
    p90: milliseconds(0.9),
    p99: milliseconds(0.99),
  };
}

/** Microseconds are beyond the clock of a machine that does something else too. */
const rounded = (seconds: number): number => Number((1000 * seconds).toFixed(2));
