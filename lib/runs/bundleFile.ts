import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Evaluation, Predictions } from '../train/metrics';
import { UserError } from '../util/errors';
import { FORMAT_VERSION, otherFormat } from '../util/format';
import { parseOptions } from '../util/options';
import { printable } from '../util/text';
import { type Bounds, type Entries, readArchive, refuser } from './archive';
import { digestSources } from './code';
import { contradiction } from './consistency';
import { type MetricRow, parseMetrics } from './metrics';
import { evaluationSchema, plain, predictionsSchema, recordOfFormat2, sha256 } from './schemas';

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
  /** The last weights and running statistics: those that were evaluated (EMA if enabled). */
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

const FORMAT = { format: 'edgevit-lab run', version: FORMAT_VERSION } as const;

export const manifestSchema = z.strictObject({
  format: z.literal(FORMAT.format),
  version: z.literal(FORMAT.version),
  files: z.record(z.string(), z.strictObject({ bytes: z.number().int().nonnegative(), sha256 })),
});

/** run.json of a run that is done and was trained in one environment. The recipe is checked by `resolveRecipe`, which needs the engine. */
const runSchema = recordOfFormat2.extend({
  status: z.literal('done'),
  recipeName: plain,
  recipe: recordOfFormat2.shape.recipe.refine(isPrintable, 'control characters are not allowed'),
  dataOptions: z.strictObject(recordOfFormat2.shape.dataOptions.pick({ side: true, decode: true, strict: true }).shape),
  dataset: recordOfFormat2.shape.dataset.extend({ name: plain, description: plain }),
  segments: recordOfFormat2.shape.segments.length(0),
  result: recordOfFormat2.shape.result.unwrap(),
});

export type BundledRun = z.output<typeof runSchema>;

/** What a bundle says of its run. */
export interface Bundle {
  run: BundledRun;
  metrics: MetricRow[];
  evaluation: Evaluation;
  predictions: Predictions;
  /** safetensors files. */
  weights: Buffer;
  init: Buffer | undefined;
  /** What people read of it, by name: it follows from the rest. */
  pages: ReadonlyMap<string, Buffer>;
  /** Its metrics, evaluation and predictions as they are, by name. */
  files: ReadonlyMap<string, Buffer>;
  /** Path in the checkout → bytes: `codeFiles` and `PROJECT_FILES`. */
  sources: ReadonlyMap<string, Buffer>;
}

/**
 * Reads a bundle and checks it: the archive, the manifest against every byte of every entry, the shape of all that is used, and that nothing in
 * it is said in two ways. Throws UserError, of one sentence, for what is wrong with it. Writes nothing.
 */
export async function readBundle(file: string, bounds?: Bounds): Promise<Bundle> {
  return checkBundle(file, await readArchive(file, bounds));
}

/** A bundle's entries, checked. `file` is what refusals call it. */
export function checkBundle(file: string, entries: Entries): Bundle {
  const refuse = refuser(file);
  const bytesOf = (name: string): Buffer => entries.get(name) ?? refuse(`it lacks ${name}`);
  const small = (name: string): Buffer =>
    bytesOf(name).length <= MAX_JSON ? bytesOf(name) : refuse(`${name} has more than ${MAX_JSON} bytes`);
  const parse = <T extends z.ZodType>(
    schema: T,
    name: string,
    value = json(small(name)) ?? refuse(`${name} is not JSON`),
  ): z.output<T> => {
    try {
      return parseOptions(schema, value, name);
    } catch (error) {
      // What is so deep that it can't be printed is no UserError.
      return refuse(error instanceof UserError ? error.message.replace(/\.$/, '') : `${name} can't be understood`);
    }
  };

  checkFormat(file, entries);
  checkManifest(entries, parse(manifestSchema, ENTRY.manifest), refuse);
  const run = parse(runSchema, ENTRY.run);
  const metrics = parseMetrics(
    bytesOf(ENTRY.metrics),
    (line, why) => refuse(`line ${line} of ${ENTRY.metrics}: ${why}`),
    MAX_ROWS,
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
  const evaluation = parse(evaluationSchema, ENTRY.evaluation);
  const predictions = parse(predictionsSchema, ENTRY.predictions);
  const contradicts = contradiction({ record: run, metrics, evaluation, predictions });
  if (contradicts !== undefined) refuse(`it contradicts itself: ${contradicts}`);
  const pages = new Map([ENTRY.readme, ENTRY.report, ENTRY.curve].map(name => [name, bytesOf(name)]));
  const files = new Map([ENTRY.metrics, ENTRY.evaluation, ENTRY.predictions].map(name => [name, bytesOf(name)]));
  return { run, metrics, init, sources, pages, files, evaluation, predictions, weights: bytesOf(ENTRY.weights) };
}

/** Throws UserError for a bundle of another lab: the rest of it is not looked at. */
export function checkFormat(file: string, entries: Entries): void {
  const said = (name: string) => json(entries.get(name) ?? Buffer.from('')) as Record<string, unknown> | undefined;
  const version = said(ENTRY.manifest)?.version;
  if (typeof version !== 'number' || version === FORMAT.version) return;
  const lab = (said(ENTRY.run)?.environment as Record<string, unknown> | undefined)?.lab;
  const known = typeof lab === 'string' && /^[\w.-]{1,40}$/.test(lab) ? lab : undefined;
  throw new UserError(otherFormat(`The bundle '${file}'`, version, known, 'replays'));
}

/** Steps and epochs of a bundle: ten thousand epochs of Flowers-102 at batch 16. A thousand of them take 6 ms to read. */
const MAX_ROWS = 1_000_000;

/** Bytes of an entry that is read as JSON: it becomes text first, and values of ten times its size. */
export const MAX_JSON = 16 * 2 ** 20;

/** sha256 and size of every entry, as manifest.json. */
export function manifestOf(entries: Entries, format: { format: string; version: number } = FORMAT): Buffer {
  const files = Object.fromEntries(
    [...entries].map(([name, bytes]) => [name, { bytes: bytes.length, sha256: digest(bytes) }]),
  );
  return Buffer.from(`${JSON.stringify({ ...format, files }, null, 2)}\n`);
}

export function checkManifest(
  entries: Entries,
  manifest: Pick<z.output<typeof manifestSchema>, 'files'>,
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

/** Whether no text inside a recipe acts on a terminal. */
function isPrintable(value: unknown): boolean {
  return (
    JSON.stringify(value, (_, inside) => (typeof inside === 'string' ? printable(inside) : inside)) ===
    JSON.stringify(value)
  );
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Undefined for what is no JSON, null, or too long. */
export function json(bytes: Buffer): unknown {
  if (bytes.length > MAX_JSON) return undefined;
  try {
    return JSON.parse(bytes.toString()) ?? undefined;
  } catch {
    return undefined;
  }
}
