import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import JSZip from 'jszip';
import { openEngine } from '../../lib/engine/open';
import { writeReport } from '../../lib/report/runReport';
import { type Entries, packArchive, readArchive } from '../../lib/runs/archive';
import { makeBundle } from '../../lib/runs/bundle';
import { ENTRY, manifestOf, readBundle, SOURCE } from '../../lib/runs/bundleFile';
import { digestSources } from '../../lib/runs/code';
import { startTrial } from '../../lib/runs/trial';
import { openPlan } from '../../lib/train/plan';
import type { Random } from '../../lib/util/random';
import { encodeTensors } from '../../lib/weights/safetensors';
import { readStateDict } from '../../lib/weights/stateDict';
import { encodeTorchFile } from '../../lib/weights/torchWriter';
import { tinyRecipe } from '../training';
import { mutated } from './mutate';

/** A reader of files that anybody may have made. */
export interface Target {
  /** Ends what files of its kind are called. */
  ending: string;
  /** Well-formed files. */
  files(): Promise<readonly Buffer[]>;
  /** Makes one that isn't. */
  mutate(files: readonly Buffer[], rng: Random): Promise<Buffer> | Buffer;
  /** Throws UserError for what it refuses. */
  read(path: string): Promise<unknown>;
}

const TENSORS = {
  'head.weight': { dtype: 'F32', shape: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
  'norm.num_batches_tracked': { dtype: 'I64', shape: [], data: BigInt64Array.of(7n) },
  empty: { dtype: 'F32', shape: [0, 4], data: new Float32Array(0) },
} as const;
const METADATA = { model: 'edgevit-xxs', config: '{"depths":[1,1,1,1]}' };
const FIXTURES = join(__dirname, '../fixtures/pth');

/** Half of the faults are put into a member, and the archive is packed again around it: its own sums and sizes would else reveal each of them. */
async function inArchive(
  files: readonly Buffer[],
  rng: Random,
  repair: (entries: Map<string, Buffer>) => void = () => {},
): Promise<Buffer> {
  const archives = files.filter(file => file.subarray(0, 2).toString() === 'PK');
  if (rng.uniform() < 0.5) return mutated(files, rng);
  const entries = new Map(await membersOf(archives[rng.int(archives.length)]!));
  const name = [...entries.keys()][rng.int(entries.size)]!;
  entries.set(name, mutated([entries.get(name)!], rng));
  repair(entries);
  const zip = new JSZip();
  for (const [member, bytes] of entries) zip.file(member, bytes, { createFolders: false });
  return zip.generateAsync({ type: 'nodebuffer' });
}

const KNOWN = new Map<Buffer, Entries>();

async function membersOf(archive: Buffer): Promise<Entries> {
  if (!KNOWN.has(archive)) {
    const path = join(mkdtempSync(join(tmpdir(), 'fuzz-')), 'whole.zip');
    writeFileSync(path, archive);
    KNOWN.set(archive, await readArchive(path));
    rmSync(dirname(path), { recursive: true });
  }
  return KNOWN.get(archive)!;
}

/** A bundle of a run of seconds, its sources cut down to two small files. */
async function smallBundle(): Promise<Buffer> {
  const runs = mkdtempSync(join(tmpdir(), 'fuzz-'));
  try {
    await openEngine();
    const reporter = { say() {}, step() {}, epoch() {}, end() {} };
    const recipe = tinyRecipe({ ema: 0, epochs: 1 });
    const run = await startTrial({
      plan: await openPlan(recipe),
      recipeName: 'petals',
      about: '',
      runs,
      reporter,
      writeReport,
    });
    const path = join(runs, 'whole.zip');
    writeFileSync(path, await makeBundle(run, writeReport));
    const entries = new Map([...(await readArchive(path))].filter(([name]) => !name.startsWith(SOURCE)));
    const [source, lock] = [Buffer.from('export {};'), Buffer.from('{}')];
    const record = JSON.parse(entries.get(ENTRY.run)!.toString()) as { environment: Record<string, unknown> };
    record.environment.code = digestSources([['lib/index.ts', source]]);
    record.environment.lockfile = createHash('sha256').update(lock).digest('hex');
    entries.set(ENTRY.run, Buffer.from(JSON.stringify(record)));
    entries.set(`${SOURCE}lib/index.ts`, source).set(`${SOURCE}package-lock.json`, lock).delete(ENTRY.manifest);
    const bundle = await packArchive(new Map([[ENTRY.manifest as string, manifestOf(entries)], ...entries]));
    writeFileSync(path, bundle);
    await readBundle(path); // or every mutation would be refused for the same reason
    return bundle;
  } finally {
    rmSync(runs, { recursive: true, force: true });
  }
}

/** A manifest that is right about a bundle's members, whatever they are. */
function describeMembers(entries: Map<string, Buffer>): void {
  const others = new Map([...entries].filter(([name]) => name !== ENTRY.manifest));
  entries.set(ENTRY.manifest, manifestOf(others));
}

export const TARGETS: Readonly<Record<string, Target>> = {
  safetensors: {
    ending: 'safetensors',
    files: async () => [Buffer.concat(encodeTensors({ tensors: TENSORS, metadata: METADATA }))],
    mutate: mutated,
    read: readStateDict,
  },
  pth: {
    ending: 'pth',
    files: async () => [
      await encodeTorchFile(TENSORS),
      ...readdirSync(FIXTURES)
        .filter(name => name.endsWith('.pth'))
        .map(name => readFileSync(join(FIXTURES, name))),
    ],
    mutate: (files, rng) => inArchive(files, rng),
    read: readStateDict,
  },
  bundle: {
    ending: 'zip',
    files: async () => [await smallBundle()],
    mutate: (files, rng) => inArchive(files, rng, describeMembers),
    read: readBundle,
  },
};
