import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import JSZip from 'jszip';
import { type Entries, readArchive } from '../../lib/runs/archive';
import { ENTRY, manifestOf, readBundle } from '../../lib/runs/bundleFile';
import { execute } from '../../lib/util/processes';
import type { Random } from '../../lib/util/random';
import { encodeTensors } from '../../lib/weights/safetensors';
import { readStateDict } from '../../lib/weights/stateDict';
import { encodeTorchFile } from '../../lib/weights/torchWriter';
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

/** A small bundle, made in a process of its own: what a training has freed here would hide what the reader takes. */
async function smallBundle(): Promise<Buffer> {
  const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
  try {
    const path = join(folder, 'whole.zip');
    const { code, output } = await execute(process.execPath, [
      '--import',
      'tsx',
      join(__dirname, 'smallBundle.ts'),
      path,
    ]);
    if (code !== 0) throw new Error(`There is no bundle to begin with: ${output}`);
    return readFileSync(path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
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
