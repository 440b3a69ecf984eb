import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatDataset, parseDataset } from '../data/open';
import { checkpointDigest } from '../train/checkpoint';
import { buildModel } from '../train/recipe';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { FORMAT_VERSION, otherFormat } from '../util/format';
import { ROOT } from '../util/root';
import { counted } from '../util/text';
import { encodeTensors } from '../weights/safetensors';
import { readTensors } from '../weights/tensorFiles';
import { packArchive } from './archive';
import { checkBundle, ENTRY, manifestOf, PROJECT_FILES, SOURCE } from './bundleFile';
import { codeDigest, codeFiles } from './code';
import { percent } from './console';
import { reproducibility } from './environment';
import { portableRecord } from './portable';
import { recordOfFormat2 } from './schemas';
import { Run, type RunRecord, reportFiles, type WriteReport } from './store';

/**
 * One run as one zip file: all that is needed to rerun and to check it, but the images, which their fingerprint stands for. It says
 * nothing of the machine's folders and processes, and equal runs give equal bytes. Throws UserError for a run that isn't done, whose
 * files were altered, or whose code is not this checkout's, because the sources are taken from here.
 */
export async function makeBundle(run: Run, writeReport: WriteReport): Promise<Buffer> {
  const { record } = run;
  const refuse = (why: string): never => {
    throw new UserError(`The run '${record.name}' can't be bundled: ${why}.`);
  };
  if (run.status !== 'done') refuse(`it is ${run.status === 'running' ? 'still running' : run.status}, not done`);
  if (record.version !== FORMAT_VERSION)
    throw new UserError(otherFormat(`The run '${record.name}'`, record.version, record.environment.lab, 'bundles'));
  if (record.segments.length > 0)
    refuse(
      `it went on by force in another environment, after step ${record.segments[0].step}, so nobody can run it again`,
    );
  const altered = run.alteredFiles();
  if (altered.length > 0) refuse(`${altered[0]} is not the file that run.json names`);
  if (codeDigest() !== record.environment.code)
    refuse(`it was made by other code than this checkout's, ${origin(record)}; check that out first`);
  if (digest(readFileSync(join(ROOT, 'package-lock.json'))) !== record.environment.lockfile)
    refuse("it was made with another package-lock.json than this checkout's");
  checkWeights(run, refuse);

  const read = (name: string): Buffer =>
    existsSync(join(run.folder, name)) ? readFileSync(join(run.folder, name)) : refuse(`its folder has no ${name}`);
  const weights = lastWeights(run);
  const init = record.init && readInit(record.init, refuse);
  const kept = new Map([ENTRY.metrics, ENTRY.evaluation, ENTRY.predictions].map(name => [name as string, read(name)]));
  const files = new Map([[ENTRY.weights as string, weights], ...kept]);
  const shared = portable(
    recordOfFormat2.parse(record),
    Object.fromEntries([...files].map(([name, bytes]) => [name, digest(bytes)])),
  );
  const entries = new Map([
    [ENTRY.run, Buffer.from(`${JSON.stringify(shared, null, 2)}\n`)],
    ...kept,
    [ENTRY.weights, weights],
    ...(init ? [[ENTRY.init, init] as const] : []),
    ...(await pagesOf(shared, kept, writeReport)),
    ...[...codeFiles(), ...PROJECT_FILES].sort().map(path => [SOURCE + path, readFileSync(join(ROOT, path))] as const),
  ]);
  const whole = new Map([[ENTRY.manifest as string, manifestOf(entries)], ...entries]);
  checkBundle(record.name, whole); // what `replay` would refuse is never handed on
  return packArchive(whole);
}

/** Throws where the checkpoint holds other weights than those that run.json names. A trial keeps its moving average alone, which names nothing. */
export function checkWeights(run: Run, refuse: (why: string) => never): void {
  const { recipe, dataset, result, trial } = run.record;
  if (trial !== null && recipe.ema > 0) return;
  const model = buildModel(recipe, dataset.classes.length);
  const same = checkpointDigest(run.lastCheckpoint, model) === result!.weights;
  if (!same) refuse('its last checkpoint holds other weights than run.json names');
}

/** The last weights as a safetensors file: those that were evaluated (EMA if enabled), and nothing else of a checkpoint. */
export function lastWeights(run: Run): Buffer {
  const {
    tensors,
    metadata: { progress: _, ...metadata },
  } = readTensors(run.lastCheckpoint);
  const own = Object.entries(tensors).filter(([name]) => !/^(optimizer|ema)\./.test(name));
  return Buffer.concat(
    encodeTensors({
      tensors: Object.fromEntries(own.map(([name, value]) => [name, tensors[`ema.${name}`] ?? value])),
      metadata,
    }),
  );
}

function readInit({ path, sha256 }: { path: string; sha256: string }, refuse: (why: string) => never): Buffer {
  if (!existsSync(path)) refuse(`the weights that it began with are no longer at ${path}`);
  const bytes = readFileSync(path);
  return digest(bytes) === sha256 ? bytes : refuse(`${path} is no longer the file that it began with`);
}

/** run.json as it can be read elsewhere: no folders of this machine, nor its name. The whole is still a run's record, so that an unpacked bundle is a run folder. */
function portable(record: RunRecord, files: Record<string, string>): RunRecord {
  const { init } = record;
  return {
    ...portableRecord(record),
    init: init && { path: ENTRY.init, sha256: init.sha256 },
    owner: { host: 'elsewhere', pid: 0, since: null },
    files,
  };
}

/** What people read of a bundle: the page and the curve are drawn again, for those in the run's folder name this machine's. */
export async function pagesOf(
  record: RunRecord,
  kept: ReadonlyMap<string, Buffer>,
  writeReport: WriteReport,
): Promise<Map<string, Buffer>> {
  const folder = mkdtempSync(join(tmpdir(), 'bundle-'));
  try {
    for (const [name, bytes] of kept) writeFileAtomic(join(folder, name), bytes);
    const run = new Run(folder, record);
    await writeReport(run);
    const { curve, page } = reportFiles(run);
    return new Map<string, Buffer>([
      [ENTRY.readme, Buffer.from(readme(record))],
      [ENTRY.report, readFileSync(page)],
      [ENTRY.curve, readFileSync(curve)],
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function origin({ environment: { git } }: RunRecord): string {
  return git === null
    ? 'which came without git'
    : `commit ${git.commit.slice(0, 12)}${git.dirty ? ' with changes' : ''}`;
}

function readme(record: RunRecord): string {
  const { name, recipe, dataset, environment, result } = record;
  const { kind, options } = parseDataset(recipe.data);
  const pictures = kind === 'folder' ? ` --data=${formatDataset({ kind, path: 'PATH', options })}` : '';
  const where = pictures
    ? `\nPATH is the folder '${dataset.name}' with its train/ and test/. The images are not in here: the fingerprint of those that\nthe run saw is\n  ${dataset.fingerprint}\n`
    : '';
  return `The run '${name}' of EdgeViT Lab
${'='.repeat(name.length + 24)}

${record.model.name} on ${dataset.description}: ${percent(result!.top1)} top-1.

To run it again and compare every loss, every prediction and the weights, in a checkout of EdgeViT Lab:

  npm run replay -- FILE.zip${pictures}
${where}
It was made by ${origin(record)}, on ${environment.engine}, Node ${environment.node.slice(1)},
${environment.platform}, ${environment.cpu}, ${counted(environment.threads, 'thread')}.

${reproducibility(environment)}

  ${ENTRY.run}             the resolved recipe, the environment, what came out
  ${ENTRY.metrics}        the loss of every step, and of every epoch how well it did
  ${ENTRY.evaluation}      accuracy by class and confusion on the test images
  ${ENTRY.predictions}     the five likeliest classes of every test image
  ${ENTRY.weights}  the last weights, ${recipe.ema > 0 ? 'as their moving average, ' : ''}in PyTorch's names and layout
${record.init ? `  ${ENTRY.init}     the weights that it began with\n` : ''}  ${ENTRY.report}          the same for people; it needs no network
  ${ENTRY.curve}
  ${SOURCE}              the sources that decide what was computed, as they were: to read and compare. Replaying runs the
                       checkout's, never these, and names the files that differ.
  ${ENTRY.manifest}        sha256 and size of all of these
`;
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
