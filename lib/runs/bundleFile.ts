import { createHash } from 'node:crypto';
import { z } from 'zod';
import { DECODINGS } from '../data/cache/decode';
import { UserError } from '../util/errors';
import { parseOptions } from '../util/options';
import { type Bounds, type Entries, readArchive, refuser, UNPRINTABLE } from './archive';
import { digestSources } from './code';

/*
 * A bundle: one run in one zip file. It is read here without the engine, because how many threads the engine takes has to be known
 * before it is loaded, and a bundle says how many. Whoever wrote the file, only what these schemas describe comes out of it.
 */

/** Names inside. */
export const ENTRY = {
  manifest: 'manifest.json',
  readme: 'README.txt',
  run: 'run.json',
  metrics: 'metrics.jsonl',
  evaluation: 'evaluation.json',
  predictions: 'predictions.json',
  /** The last weights and running statistics: those that were judged, so their moving average where there is one. */
  weights: 'weights.safetensors',
  /** The weights that the run began with, where they were not drawn by its seed. */
  init: 'init.safetensors',
  report: 'report.html',
  curve: 'learning-curve.svg',
} as const;

/** The folder inside that holds the sources, to be read and compared; nothing in it is ever run. */
export const SOURCE = 'source/';

/** Files of the checkout beside `codeFiles` that say what they were run with. */
export const PROJECT_FILES = ['package.json', 'package-lock.json', 'tsconfig.json'] as const;

export const FORMAT = { format: 'edgevit-lab run', version: 1 } as const;

/** Text that may be printed. */
const text = z
  .string()
  .max(10_000)
  .refine(value => isPrintable(value), 'control characters are not allowed');
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'a sha256 is expected');
const whole = z.number().int().nonnegative();

const manifestSchema = z.strictObject({
  format: z.literal(FORMAT.format),
  version: z.literal(FORMAT.version),
  files: z.record(z.string(), z.strictObject({ bytes: whole, sha256 })),
});

/** Of run.json, what a rerun needs and compares. The recipe is checked by `resolveRecipe`, which needs the engine. */
const runSchema = z.object({
  name: z.string().regex(/^(?!\.+$)[\w.-]{1,200}$/, "letters, digits, '.', '_' and '-' are expected"),
  status: z.literal('done'),
  recipeName: text,
  recipe: z
    .record(z.string(), z.unknown())
    .refine(value => isPrintable(value), 'control characters and values within values within values are not allowed'),
  model: z.object({ outputs: whole }),
  dataOptions: z.strictObject({
    side: z.number().int().positive().optional(),
    decode: z.enum(DECODINGS).optional(),
    strict: z.boolean().optional(),
  }),
  dataset: z.object({ name: text, description: text, fingerprint: sha256 }),
  init: z.object({ sha256 }).nullable(),
  environment: z.object({
    lab: text,
    node: text,
    platform: text,
    cpu: text,
    cores: whole,
    threads: z.number().int().positive().max(1024),
    engine: text,
    tfjs: text,
    git: z.object({ commit: text, dirty: z.boolean() }).nullable(),
    lockfile: sha256,
    code: sha256,
  }),
  result: z.object({ top1: z.number(), top5: z.number(), loss: z.number(), weights: sha256 }),
});

const stepRow = z.strictObject({
  kind: z.literal('step'),
  step: whole,
  epoch: whole,
  learningRate: z.number(),
  loss: z.number(),
});
const epochRow = z.strictObject({
  kind: z.literal('epoch'),
  step: whole,
  epoch: whole,
  learningRate: z.number(),
  trainLoss: z.number(),
  trainTop1: z.number(),
  on: z.enum(['val', 'test']),
  evalLoss: z.number(),
  evalTop1: z.number(),
  evalTop5: z.number(),
  imagesPerSecond: z.number().nullable(),
});

const evaluationSchema = z.strictObject({
  count: whole,
  loss: z.number(),
  top1: z.number(),
  top5: z.number(),
  perClass: z.array(z.strictObject({ name: text, count: whole, correct: whole })),
  confusion: z.array(z.array(whole)),
});

const predictionsSchema = z.strictObject({
  labels: z.array(whole),
  top: z.array(z.array(whole)),
  probabilities: z.array(z.array(z.number())),
});

export type BundledRun = z.output<typeof runSchema>;

/** What a bundle says of its run. */
export interface Bundle {
  run: BundledRun;
  metrics: z.output<typeof metricsSchema>;
  evaluation: z.output<typeof evaluationSchema>;
  predictions: z.output<typeof predictionsSchema>;
  /** safetensors files. */
  weights: Buffer;
  init: Buffer | undefined;
  /** Path in the checkout → bytes: `codeFiles` and `PROJECT_FILES`. */
  sources: ReadonlyMap<string, Buffer>;
}

const metricsSchema = z.array(z.discriminatedUnion('kind', [stepRow, epochRow]));

/**
 * Reads a bundle and checks it: the archive, the manifest against every byte of every entry, and the shape of all that is used.
 * Throws UserError, of one sentence, for what is wrong with it. Writes nothing.
 */
export async function readBundle(file: string, bounds?: Bounds): Promise<Bundle> {
  const entries = await readArchive(file, bounds);
  const refuse = refuser(file);
  const bytesOf = (name: string): Buffer => entries.get(name) ?? refuse(`it lacks ${name}`);
  const parse = <T extends z.ZodType>(
    schema: T,
    name: string,
    value = json(bytesOf(name)) ?? refuse(`${name} is not JSON`),
  ): z.output<T> => {
    try {
      return parseOptions(schema, value, name);
    } catch (error) {
      // What is so deep that it can't be printed is no UserError.
      return refuse(error instanceof UserError ? error.message.replace(/\.$/, '') : `${name} can't be understood`);
    }
  };

  checkManifest(entries, parse(manifestSchema, ENTRY.manifest), refuse);
  const run = parse(runSchema, ENTRY.run);
  const lines = bytesOf(ENTRY.metrics).toString().split('\n').slice(0, -1);
  const metrics = parse(
    metricsSchema,
    ENTRY.metrics,
    lines.map((line, i) => json(Buffer.from(line)) ?? refuse(`line ${i + 1} of ${ENTRY.metrics} is not JSON`)),
  );
  const init = run.init === null ? undefined : bytesOf(ENTRY.init);
  if (init && digest(init) !== run.init!.sha256)
    refuse(`${ENTRY.init} is not what ${ENTRY.run} says the run began with`);
  const names = [...entries.keys()].filter(name => name.startsWith(SOURCE)).sort();
  const sources = new Map(names.map(name => [name.slice(SOURCE.length), bytesOf(name)]));
  const code = [...sources].filter(([path]) => !(PROJECT_FILES as readonly string[]).includes(path));
  if (
    digestSources(code) !== run.environment.code ||
    digest(bytesOf(`${SOURCE}package-lock.json`)) !== run.environment.lockfile
  )
    refuse(`its sources are not those that ${ENTRY.run} says the run was made by`);
  return {
    run,
    metrics,
    init,
    sources,
    evaluation: parse(evaluationSchema, ENTRY.evaluation),
    predictions: parse(predictionsSchema, ENTRY.predictions),
    weights: bytesOf(ENTRY.weights),
  };
}

/** sha256 and size of every entry, as manifest.json. */
export function manifestOf(entries: Entries): Buffer {
  const files = Object.fromEntries(
    [...entries].map(([name, bytes]) => [name, { bytes: bytes.length, sha256: digest(bytes) }]),
  );
  return Buffer.from(`${JSON.stringify({ ...FORMAT, files }, null, 2)}\n`);
}

function checkManifest(
  entries: Entries,
  manifest: z.output<typeof manifestSchema>,
  refuse: (why: string) => never,
): void {
  const files = new Map(Object.entries(manifest.files));
  for (const [name, { bytes, sha256 }] of files) {
    const entry = entries.get(name) ?? refuse(`it lacks ${JSON.stringify(name)}, which its manifest lists`);
    if (entry.length !== bytes || digest(entry) !== sha256)
      refuse(`${JSON.stringify(name)} is not what its manifest says: the archive was altered or damaged`);
  }
  const foreign = [...entries.keys()].find(name => name !== ENTRY.manifest && !files.has(name));
  if (foreign !== undefined) refuse(`its manifest does not list ${JSON.stringify(foreign)}`);
}

/** Of a recipe no more is known before the engine is loaded: its values lie two deep. */
function isPrintable(value: unknown, depth = 4): boolean {
  if (typeof value === 'string') return value.search(UNPRINTABLE) < 0;
  if (typeof value !== 'object' || value === null) return true;
  return (
    depth > 0 && Object.entries(value).every(([key, inside]) => isPrintable(key) && isPrintable(inside, depth - 1))
  );
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Undefined for what is no JSON, or null. */
function json(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString()) ?? undefined;
  } catch {
    return undefined;
  }
}
