import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { totalmem } from 'node:os';
import { basename, dirname, join, relative, sep } from 'node:path';
import { writeFileAtomic } from '../../util/files';
import { inScratch } from '../../util/folders';
import { locked } from '../../util/lock';
import { execute } from '../../util/processes';
import { describe, FEATURES_SOURCE, featuresProbe, type InstructionSet, processorFeatures, setOf } from './isa';
import { packageFolder, packageVersion } from './packages';
import { pruneCache } from './prune';
import { isIntact, isUntouched, record } from './sums';
import { diskFull, ignoreReadOnly, Obstacle } from './system';
import { libraryFolder, TENSORFLOW, type Wheel } from './wheel';

/** tfjs-node's C++, on which our own is built. */
const binding = (): string => join(packageFolder('@tensorflow/tfjs-node'), 'binding');

/** Our own C++, which includes tfjs-node's. */
const NATIVE = join(__dirname, '../native');

const nodeApi = (): string => join(packageFolder('node-api-headers'), 'include');

/** Paths of all files in a folder and the folders in it, relative to it. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(({ parentPath, name }) => relative(folder, join(parentPath, name)).split(sep).join('/'))
    .sort();
}

/** For macOS written by its documentation, not tried: there was no Mac to try it on. */
const MAC = process.platform === 'darwin';

// What the kernels fuse into one multiply-add they say (native/lanes.h); a compiler that fuses more changes the bytes of trainings.
// NDEBUG and EIGEN_MAX_ALIGN_BYTES as in TensorFlow's own build: they shape the classes that our kernels share with it.
const COMPILE = [
  '-O3',
  '-ffp-contract=off',
  '-std=c++17',
  '-fPIC',
  '-DNAPI_VERSION=8',
  '-DNDEBUG',
  '-DEIGEN_MAX_ALIGN_BYTES=64',
];
const LINK = ['-shared', ...(MAC ? ['-undefined', 'dynamic_lookup'] : [])];

/** What the compiler is told of the processor, never `native`: two machines that share a folder must mean the same by the same file. */
const flagsOf = ({ isa, flags }: InstructionSet): string[] => [...flags, `-DLAB_ISA="${isa}"`];

/** The addon built from exactly these sources for exactly this place and instruction set. */
export function builtAddon(cache: string, set: InstructionSet): string {
  const hash = createHash('sha256');
  const setting = [
    TENSORFLOW,
    packageVersion('@tensorflow/tfjs-node'),
    process.platform,
    process.arch,
    COMPILE,
    flagsOf(set),
    LINK,
    ...(process.env.EDGEVIT_CXX ? [process.env.EDGEVIT_CXX] : []),
  ];
  hash.update(JSON.stringify([...setting, libraryFolder(cache)]));
  for (const folder of [binding(), NATIVE])
    for (const file of filesIn(folder)) hash.update(`\0${file}\0`).update(readFileSync(join(folder, file)));
  return join(cache, `addon-${hash.digest('hex').slice(0, 16)}-${set.isa}.node`);
}

/** What the processor has, as this process sees it, building the probe that asks if the cache does not hold it. Throws an Obstacle. */
export async function findFeatures(cache: string): Promise<ReadonlySet<string>> {
  const known = processorFeatures(cache);
  if (known) return known;
  const compiler = await findCompiler();
  await inScratch(cache, async scratch => {
    const fresh = join(scratch, 'features.node');
    const args = ['-O2', '-std=c++17', '-fPIC', '-DNAPI_VERSION=8', `-I${nodeApi()}`, FEATURES_SOURCE, ...LINK];
    const outcome = await execute(compiler, [...args, '-o', fresh], { env: { ...process.env, TMPDIR: scratch } });
    if (outcome.code !== 0) throw buildObstacle(cache, compiler, outcome.output, outcome.signal);
    renameSync(fresh, featuresProbe(cache));
  });
  const features = processorFeatures(cache);
  if (features) return features;
  throw new Obstacle(
    `${compiler} builds what Node ${process.version} on ${process.arch} cannot load: set CXX to a compiler for this system.`,
  );
}

/** Makes sure that the cache holds a working addon for an instruction set, building it if not. Throws an Obstacle. */
export async function installAddon(
  cache: string,
  wheel: Wheel,
  set: InstructionSet,
  report: (line: string) => void,
): Promise<string> {
  const addon = builtAddon(cache, set);
  const isUsable = async () =>
    existsSync(addon) && (await isIntact(addon)) !== false && (await works(cache, set, addon));
  if (!(await isUsable()))
    await locked(
      addon,
      ({ pid, host }) => report(`Process ${pid} on ${host} builds the addon for ${set.label} already: waiting for it.`),
      async () => {
        if (await isUsable()) return;
        await build(cache, wheel, set, addon, report);
        await record(addon);
        pruneCache(cache, [addon]);
      },
    );
  if (!isUntouched(addon)) await record(addon).catch(ignoreReadOnly);
  return addon;
}

/** Whether an addon works, as far as this processor can tell: one that it cannot run is only built. */
async function works(cache: string, set: InstructionSet, addon: string): Promise<boolean> {
  return !isRunnable(cache, set) || !(await probe(cache, addon)).obstacle;
}

const isRunnable = (cache: string, { needs }: InstructionSet): boolean => {
  const features = processorFeatures(cache);
  return !features || needs.every(feature => features.has(feature));
};

/**
 * How to call a C++ compiler, or an Obstacle. `CXX` names another one; so does `EDGEVIT_CXX`, whose addon stands beside the usual one, so that what
 * two compilers make can be compared.
 */
export async function findCompiler(): Promise<string> {
  const given = process.env.EDGEVIT_CXX || process.env.CXX;
  const names = given ? [given] : MAC ? ['clang++'] : ['g++', 'clang++', 'c++'];
  for (const name of names) if ((await execute(name, ['--version'])).code === 0) return name;
  throw new Obstacle(
    `A C++ compiler (${names.join(', ')}), which builds TensorFlow's addon, is not here: install one (Debian, Ubuntu: \`apt install g++\`; macOS: \`xcode-select --install\`) and run \`npm run setup\`.`,
  );
}

/** Bytes of memory below which one file is compiled at a time: each takes up to 1 GB, beside Node and what else runs. */
const ROOMY = 3e9;

/** How many files are compiled at once. A container's memory limit counts like a smaller machine. */
export function compilesAtOnce(): number {
  const limit = process.constrainedMemory() || Infinity; // 0 where there is none, or none is known
  return Math.min(totalmem(), limit) < ROOMY ? 1 : 2;
}

async function build(
  cache: string,
  wheel: Wheel,
  set: InstructionSet,
  addon: string,
  report: (line: string) => void,
): Promise<void> {
  const compiler = await findCompiler();
  const library = libraryFolder(cache);
  const includes = [
    '-isystem',
    join(library, 'include'),
    ...[nodeApi(), packageFolder('@tensorflow/tfjs-node'), binding(), NATIVE].map(folder => `-I${folder}`),
  ];
  const inputs = filesIn(NATIVE).filter(file => file.endsWith('.cc'));
  report(`Building the addon for ${set.label} with ${compiler} (${inputs.join(', ')}), which takes a minute or two.`);
  await inScratch(cache, async scratch => {
    const run = async (...args: string[]): Promise<void> => {
      const outcome = await execute(compiler, args, { env: { ...process.env, TMPDIR: scratch } });
      if (outcome.code !== 0) throw buildObstacle(cache, compiler, outcome.output, outcome.signal);
    };
    const objectOf = (input: string): string => join(scratch, `${input.replaceAll('/', '-')}.o`);
    const waiting = [...inputs];
    const compile = async (): Promise<void> => {
      for (let input = waiting.shift(); input; input = waiting.shift())
        await run('-c', join(NATIVE, input), ...COMPILE, ...flagsOf(set), ...includes, '-o', objectOf(input));
    };
    // All have ended before the scratch folder goes.
    const lines = await Promise.allSettled(Array.from({ length: compilesAtOnce() }, compile));
    for (const line of lines) if (line.status === 'rejected') throw line.reason;
    const fresh = join(scratch, 'addon.node');
    const libraries = Object.keys(wheel.libraries).map(member => join(library, basename(member)));
    // -Xlinker rather than -Wl: the folder's name may have a comma.
    await run(...LINK, ...inputs.map(objectOf), ...libraries, '-Xlinker', '-rpath', '-Xlinker', library, '-o', fresh);
    if (isRunnable(cache, set)) {
      const { obstacle } = await probe(cache, fresh);
      if (obstacle) throw obstacle;
    }
    renameSync(fresh, addon);
  });
}

function buildObstacle(cache: string, compiler: string, output: string, signal: string | null): Obstacle {
  if (/no space left on device/i.test(output)) return diskFull(cache);
  const log = join(cache, 'build.log');
  writeFileAtomic(log, output);
  const reason = signal
    ? `ended by ${signal}; out of memory?`
    : (output
        .split('\n')
        .find(line => /\berror\b/i.test(line))
        ?.trim() ?? 'no reason given');
  return new Obstacle(
    `${compiler} could not build the addon (${reason}; all it said is in ${log}): a compiler with C++17, such as g++ 9 or newer, is needed.`,
  );
}

/** Run by a child process, because an addon that does not fit can end its process: loads it, lets TensorFlow add 1 and 2, and runs a kernel of ours. */
const TRY = `
  const binding = require(process.argv[1]);
  const vector = values => binding.createTensor([1, values.length], binding.TF_FLOAT, new Float32Array(values));
  const type = { name: 'T', type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT };
  const run = (op, attrs, inputs) => binding.tensorDataSync(binding.executeOp(op, attrs, inputs, 1)[0].id)[0];
  if (run('AddV2', [type], [vector([1]), vector([2])]) !== 3) throw new Error('1 + 2 is not 3');
  const bias = binding.createTensor([32], binding.TF_FLOAT, new Float32Array(32));
  const gelu = run('LabBiasGelu', [], [vector(Array(32).fill(1)), bias]);
  if (!(Math.abs(gelu - 0.8413447) < 1e-5)) throw new Error('gelu(1) is not 0.841');
  console.log('version=' + binding.TF_Version);`;

/** Tries an addon in a process of its own: the version of TensorFlow behind it, or what is in the way. */
export async function probe(cache: string, addon: string): Promise<{ version?: string; obstacle?: Obstacle }> {
  const [features, set] = [processorFeatures(cache), setOf(addon)];
  if (features && set && !set.needs.every(feature => features.has(feature))) {
    return {
      obstacle: new Obstacle(
        `${addon} is built for ${set.label}, and this processor has ${describe(features)}: run \`npm run setup\`, which builds one that fits.`,
      ),
    };
  }
  const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2' };
  const { code, signal, output } = await execute(process.execPath, ['-e', TRY, addon], { env });
  const version = /^version=(.+)$/m.exec(output)?.[1];
  if (code === 0 && version) return { version };
  if (features && process.arch === 'x64' && !features.has('avx')) {
    return {
      obstacle: new Obstacle('This processor lacks AVX, which TensorFlow is compiled for: use a newer machine.'),
    };
  }
  const reason =
    /compiled to use .+ instructions.*/.exec(output)?.[0] ??
    /^\w*Error: (.+)$/m.exec(output)?.[1] ??
    (signal === 'SIGILL'
      ? `ended by SIGILL, at an instruction that this processor${features ? `, with ${describe(features)},` : ''} does not have`
      : signal
        ? `ended by ${signal}`
        : output.trim().split('\n').pop());
  return {
    obstacle: new Obstacle(
      `TensorFlow's addon does not load (${reason}): run \`npm run setup\` again; if that does not help, remove the cache folder ${dirname(addon)} first.`,
    ),
  };
}
