import { z } from 'zod';
import { DECODINGS } from '../data/decodings';
import type { Recipe } from '../train/recipe';
import { FORMAT_VERSION } from '../util/format';
import '../util/issues';
import { UNPRINTABLE } from '../util/text';

/*
 * What the files of a run hold, each described once: run folders, bundles and results are read by these. Whoever wrote a file, only what is
 * described here comes out of it. Loads nothing of the engine.
 */

const whole = z.number().int().nonnegative();
const text = z.string().max(10_000);
/** Text without characters that act on terminals. */
export const plain = text.refine(value => value.search(UNPRINTABLE) < 0, 'control characters are not allowed');
const fraction = z.number().min(0).max(1);
export const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'a sha256 is expected');

/** Of runs and their folders, and of the files that are named after them. */
export const runName = z
  .string()
  .regex(/^(?!\.+$)[\w.-]{1,200}$/, "letters, digits, '.', '_' and '-' are expected, at most 200");

export const dataOptionsSchema = z
  .strictObject({
    flowers102Dir: text,
    cacheDir: text,
    side: z.number().int().positive(),
    decode: z.enum(DECODINGS),
    strict: z.boolean(),
  })
  .partial();

/** `Environment`. */
const environmentShape = {
  numerics: whole,
  code: sha256,
  engine: plain,
  kernels: z.enum(['own', 'stock']),
  threads: z.number().int().positive().max(1024),
  cpu: plain,
  instructionSet: plain,
  cpuFeatures: plain,
  variables: plain,
  tfjs: plain,
  packages: plain,
  libvips: plain,
  node: plain,
  platform: plain,
  libc: plain,
  cores: whole,
  lab: plain,
  git: z.object({ commit: z.string().regex(/^[0-9a-f]{40,64}$/), dirty: z.boolean() }).nullable(),
  lockfile: sha256,
};
export const environmentSchema = z.object(environmentShape);

/** Environments of format 1 tell less. */
const environmentOfFormat1 = z.object({
  ...Object.fromEntries(Object.entries(environmentShape).map(([key, schema]) => [key, schema.optional()])),
}) as unknown as typeof environmentSchema;

const loss = z.number().nullable();
const best = z.object({ epoch: whole, top1: fraction });

const resultSchema = z.object({
  top1: fraction,
  top5: fraction,
  loss,
  best,
  imagesPerSecond: z.number().nullable(),
  weights: sha256,
});

const side = z.number().int().positive();
const settings = z.record(z.string(), z.unknown());
const recipeShape = z.looseObject({
  model: text,
  ablation: text.nullable(),
  modelSettings: settings,
  data: text,
  size: z.union([side, z.tuple([side, side])]),
  augment: settings,
  epochs: whole,
  batch: whole,
  seed: whole,
});

/** Of a recipe that is known before the engine is loaded, which checks it: what is told of it, and that its values lie three deep. */
export const recipeSchema = z.custom<Recipe>().superRefine((value, context) => {
  const { error } = recipeShape.safeParse(value);
  for (const { path, message } of error?.issues ?? []) context.addIssue({ code: 'custom', path: [...path], message });
  if (!isShallow(value)) context.addIssue('its values lie deeper, or are longer, than a recipe has');
});

const place = z.object({ host: text, boot: text, namespace: text });

const recordShape = {
  name: runName,
  status: z.enum(['running', 'done', 'failed', 'interrupted']),
  trial: z.string().nullable(),
  recipeName: text,
  recipe: recipeSchema,
  model: z.object({
    name: text,
    config: settings.refine(config => isShallow(config), 'settings are expected'),
    outputs: whole,
    params: whole,
    macs: z.number().nonnegative(),
  }),
  dataOptions: dataOptionsSchema,
  dataset: z.object({
    name: text,
    description: text,
    fingerprint: sha256,
    classes: z.array(text),
    train: whole,
    test: whole,
    val: whole,
    skipped: whole,
  }),
  init: z.object({ path: text, sha256 }).nullable(),
  started: z.iso.datetime(),
  ended: z.iso.datetime().nullable(),
  owner: z.object({ host: text, pid: whole, since: z.string().nullable(), place: place.optional() }),
  resumedAt: z.array(whole),
  result: resultSchema.nullable(),
  files: z.record(z.string(), sha256),
  error: text.nullable(),
};

/** run.json of the present format. */
export const recordOfFormat2 = z.object({
  version: z.literal(FORMAT_VERSION),
  recipeVersion: z.number().int(),
  environment: environmentSchema,
  segments: z.array(z.object({ step: whole, environment: environmentSchema })),
  ...recordShape,
});

const recordOfFormat1 = z.object({ ...recordShape, environment: environmentOfFormat1 }).transform(record => ({
  version: 1 as const,
  recipeVersion: 1,
  segments: [],
  ...record,
}));

/** run.json of any format. */
export const recordSchema = z
  .unknown()
  .transform((value, context): z.output<typeof recordOfFormat1> | z.output<typeof recordOfFormat2> => {
    const version = (value as { version?: unknown } | null)?.version;
    const parsed = (version === undefined ? recordOfFormat1 : recordOfFormat2).safeParse(value);
    if (parsed.success) return parsed.data;
    const newer = typeof version === 'number' && version > FORMAT_VERSION;
    for (const { path, message } of parsed.error.issues.slice(0, 1))
      context.issues.push({
        code: 'custom',
        path: newer ? [] : path,
        message: newer ? `its format is ${version}, and this lab reads up to ${FORMAT_VERSION}` : message,
        input: value,
      });
    return z.NEVER;
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
  trainLoss: loss,
  trainTop1: fraction,
  on: z.enum(['val', 'test']),
  evalLoss: loss,
  evalTop1: fraction,
  evalTop5: fraction,
  imagesPerSecond: z.number().nullable(),
});

/** A line of metrics.jsonl. */
export const metricRowSchema = z.discriminatedUnion('kind', [stepRow, epochRow]);

/** evaluation.json */
export const evaluationSchema = z.strictObject({
  count: whole,
  loss,
  top1: fraction,
  top5: fraction,
  perClass: z.array(z.strictObject({ name: text, count: whole, correct: whole })),
  confusion: z.array(z.array(whole)),
});

/** predictions.json */
export const predictionsSchema = z.strictObject({
  labels: z.array(whole),
  top: z.array(z.array(whole)),
  probabilities: z.array(z.array(z.number().nullable())),
});

/** Whether a value is one that can be walked and printed, whoever wrote it. */
function isShallow(value: unknown, depth = 4): boolean {
  if (typeof value === 'string') return value.length <= 10_000;
  if (typeof value !== 'object' || value === null) return true;
  return depth > 0 && Object.values(value).every(inside => isShallow(inside, depth - 1));
}
