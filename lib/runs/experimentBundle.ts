import { z } from 'zod';
import { FORMAT_VERSION } from '../util/format';
import { counted } from '../util/text';
import { BOUNDS, type Bounds, packArchive, readArchive, refuser, unpackArchive } from './archive';
import {
  type Bundle,
  checkBundle,
  checkFormat,
  checkManifest,
  ENTRY,
  json,
  MAX_JSON,
  manifestOf,
  manifestSchema,
} from './bundleFile';
import { parseResults } from './trialResults';

/* A whole experiment as one file: the bundles of its runs, and its rows. */

const EXPERIMENT = { format: 'edgevit-lab experiment', version: FORMAT_VERSION } as const;
/** Where it has the bundles of its runs, and the rows of its tables. */
const RUNS_INSIDE = 'runs/';
const ROWS = 'results.json';

const experimentSchema = manifestSchema.extend({ format: z.literal(EXPERIMENT.format) });

/** Packs the bundles of an experiment's runs, by their names, beside the rows that its tables are made of. */
export function packExperiment(bundles: ReadonlyMap<string, Buffer>, rows: string): Promise<Buffer> {
  const entries = new Map([
    [ROWS, Buffer.from(rows)],
    ...[...bundles].map(([name, bytes]) => [`${RUNS_INSIDE}${name}.zip`, bytes] as const),
  ]);
  return packArchive(new Map([[ENTRY.manifest as string, manifestOf(entries, EXPERIMENT)], ...entries]));
}

/** How many times its own bound a file's bundles may hold together: their texts shrink to a quarter, their weights hardly. */
const INFLATED = 4;

/**
 * The bundles of a file, one after another: of one that holds a run itself alone, of one that holds an experiment all of them. Throws UserError as
 * `readBundle`, and where a row says other than its run.
 */
export async function* readBundles(file: string, bounds: Bounds = BOUNDS): AsyncGenerator<Bundle> {
  const entries = await readArchive(file, bounds);
  const said = json(entries.get(ENTRY.manifest) ?? Buffer.from('')) as { format?: unknown } | undefined;
  if (said?.format !== EXPERIMENT.format) {
    yield checkBundle(file, entries);
    return;
  }
  const refuse = refuser(file);
  checkFormat(file, entries);
  const manifest = experimentSchema.safeParse(said);
  if (!manifest.success) refuse(`its ${ENTRY.manifest} can't be understood`);
  checkManifest(entries, manifest.data!, refuse);
  const told = entries.get(ROWS) ?? refuse(`it lacks ${ROWS}`);
  if (told.length > MAX_JSON) refuse(`${ROWS} has more than ${MAX_JSON} bytes`);
  const rows = parseResults(`${file}: ${ROWS}`, told.toString());
  const inside = [...entries].filter(([name]) => name.startsWith(RUNS_INSIDE));
  if (inside.length !== rows.length)
    refuse(`it has ${counted(inside.length, 'run')}, but ${counted(rows.length, 'row')}`);
  let left = INFLATED * bounds.bytes;
  for (const [name, bytes] of inside) {
    const own = await unpackArchive(`${file}: ${name}`, bytes, { ...bounds, bytes: Math.min(bounds.bytes, left) });
    for (const { length } of own.values()) left -= length;
    const bundle = checkBundle(`${file}: ${name}`, own);
    const { result, recipe } = bundle.run;
    const isTold = rows.some(
      row => result.weights.startsWith(row.weights) && row.top1 === result.top1 && row.seed === recipe.seed,
    );
    if (!isTold) refuse(`none of its rows is that of ${name}`);
    yield bundle;
  }
}
