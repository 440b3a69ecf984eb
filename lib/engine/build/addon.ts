import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { basename, dirname, join, relative, sep } from 'node:path';
import { writeFileAtomic } from '../../util/files';
import { inScratch } from '../../util/folders';
import { execute } from '../../util/processes';
import { diskFull, Obstacle } from './system';
import { libraryFolder, TENSORFLOW, type Wheel } from './wheel';

const resolve = createRequire(__filename).resolve;

/** tfjs-node's package folder. */
export const TFJS_NODE = dirname(resolve('@tensorflow/tfjs-node/package.json'));

/** Where tfjs-node looks for its addon. */
export const ADDON = join(TFJS_NODE, 'lib/napi-v8/tfjs_binding.node');

const BINDING = join(TFJS_NODE, 'binding');

/** Our own C++, which includes tfjs-node's. */
const NATIVE = join(__dirname, '../native');

/** Paths of all files in a folder and the folders in it, relative to it. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(({ parentPath, name }) => relative(folder, join(parentPath, name)).split(sep).join('/'))
    .sort();
}

/** For macOS written by its documentation, not tried: there was no Mac to try it on. */
const MAC = process.platform === 'darwin';

// For the processor at hand, so that the fused kernels use its widest vectors (on Apple's, clang does without being told).
// NDEBUG and EIGEN_MAX_ALIGN_BYTES as in TensorFlow's own build: they shape the classes that our kernels share with it.
const COMPILE = [
  '-O3',
  ...(MAC ? [] : ['-march=native']),
  '-std=c++17',
  '-fPIC',
  '-DNAPI_VERSION=8',
  '-DNDEBUG',
  '-DEIGEN_MAX_ALIGN_BYTES=64',
];
const LINK = ['-shared', ...(MAC ? ['-undefined', 'dynamic_lookup'] : [])];

/** The addon built from exactly these sources for exactly this place. */
export function builtAddon(cache: string): string {
  const hash = createHash('sha256');
  const { version } = JSON.parse(readFileSync(join(TFJS_NODE, 'package.json'), 'utf8')) as { version: string };
  hash.update(
    JSON.stringify([
      TENSORFLOW,
      version,
      process.platform,
      process.arch,
      cpus()[0]?.model,
      COMPILE,
      LINK,
      libraryFolder(cache),
    ]),
  );
  for (const folder of [BINDING, NATIVE])
    for (const file of filesIn(folder)) hash.update(`\0${file}\0`).update(readFileSync(join(folder, file)));
  return join(cache, `addon-${hash.digest('hex').slice(0, 16)}.node`);
}

/** Whether tfjs-node has exactly this addon in place. */
export function isInPlace(addon: string): boolean {
  return existsSync(ADDON) && existsSync(addon) && readFileSync(ADDON).equals(readFileSync(addon));
}

/** Puts the addon in its place for tfjs-node, building it if the cache does not hold a working one. Throws an Obstacle. */
export async function installAddon(cache: string, wheel: Wheel, report: (line: string) => void): Promise<void> {
  const addon = builtAddon(cache);
  if (!existsSync(addon) || (await probe(addon)).obstacle) await build(cache, wheel, addon, report);
  writeFileAtomic(ADDON, readFileSync(addon));
}

/** How to call a C++ compiler, or an Obstacle. `CXX` names another one. */
export async function findCompiler(): Promise<string> {
  const names = process.env.CXX ? [process.env.CXX] : MAC ? ['clang++'] : ['g++', 'clang++', 'c++'];
  for (const name of names) if ((await execute(name, ['--version'])).code === 0) return name;
  throw new Obstacle(
    `A C++ compiler (${names.join(', ')}), which builds TensorFlow's addon, is not here: install one (Debian, Ubuntu: \`apt install g++\`; macOS: \`xcode-select --install\`) and run \`npm run setup\`.`,
  );
}

async function build(cache: string, wheel: Wheel, addon: string, report: (line: string) => void): Promise<void> {
  const compiler = await findCompiler();
  const library = libraryFolder(cache);
  const includes = [
    ...['-isystem', join(library, 'include')],
    ...[join(dirname(resolve('node-api-headers/package.json')), 'include'), TFJS_NODE, BINDING, NATIVE].map(
      folder => `-I${folder}`,
    ),
  ];
  const inputs = filesIn(NATIVE).filter(file => file.endsWith('.cc'));
  report(`Building the addon with ${compiler} (${inputs.join(', ')}).`);
  await inScratch(cache, async scratch => {
    const run = async (...args: string[]): Promise<void> => {
      const outcome = await execute(compiler, args, { env: { ...process.env, TMPDIR: scratch } });
      if (outcome.code !== 0) throw buildObstacle(cache, compiler, outcome.output, outcome.signal);
    };
    const objects = inputs.map(file => join(scratch, `${file.replaceAll('/', '-')}.o`));
    const compile = async (first: number): Promise<void> => {
      for (let i = first; i < inputs.length; i += 2)
        await run('-c', join(NATIVE, inputs[i]!), ...COMPILE, ...includes, '-o', objects[i]);
    };
    // Two at a time, because each takes up to 1 GB of memory; both have ended before the scratch folder goes.
    const halves = await Promise.allSettled([compile(0), compile(1)]);
    for (const half of halves) if (half.status === 'rejected') throw half.reason;
    const fresh = join(scratch, 'addon.node');
    const libraries = Object.keys(wheel.libraries).map(member => join(library, basename(member)));
    // -Xlinker rather than -Wl: the folder's name may have a comma.
    await run(...LINK, ...objects, ...libraries, '-Xlinker', '-rpath', '-Xlinker', library, '-o', fresh);
    const { obstacle } = await probe(fresh);
    if (obstacle) throw obstacle;
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

/** Run by a child process, because an addon that does not fit can end its process: loads it and lets TensorFlow add 1 and 2. */
const ADD = `
  const binding = require(process.argv[1]);
  const scalar = value => binding.createTensor([], binding.TF_FLOAT, new Float32Array([value]));
  const type = { name: 'T', type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT };
  const [sum] = binding.executeOp('AddV2', [type], [scalar(1), scalar(2)], 1);
  if (binding.tensorDataSync(sum.id)[0] !== 3) throw new Error('1 + 2 is not 3');
  console.log('version=' + binding.TF_Version);`;

/** Tries an addon in a process of its own: the version of TensorFlow behind it, or what is in the way. */
export async function probe(addon: string): Promise<{ version?: string; obstacle?: Obstacle }> {
  const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2' };
  const { code, signal, output } = await execute(process.execPath, ['-e', ADD, addon], { env });
  const version = /^version=(.+)$/m.exec(output)?.[1];
  if (code === 0 && version) return { version };
  if (signal === 'SIGILL' || /compiled to use \w+ instructions/.test(output)) {
    return {
      obstacle: new Obstacle('This processor lacks AVX, which TensorFlow is compiled for: use a newer machine.'),
    };
  }
  const reason =
    /^\w*Error: (.+)$/m.exec(output)?.[1] ?? (signal ? `ended by ${signal}` : output.trim().split('\n').pop());
  return {
    obstacle: new Obstacle(
      `TensorFlow's addon does not load (${reason}): run \`npm run setup\` again; if that does not help, remove the cache folder ${dirname(addon)} first.`,
    ),
  };
}
