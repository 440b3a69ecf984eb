import { existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import * as os from 'node:os';
import { join } from 'node:path';
import { userJupyter } from '../../util/jupyter';
import { execute } from '../../util/processes';
import { processors } from '../../util/processors';
import { counted } from '../../util/text';
import { THREAD_VARIABLES } from '../../util/threads';
import { findCompiler, probe } from './addon';
import { currentEngine, type Engine, isSound, JS_ASKED } from './install';
import { describe, processorFeatures } from './isa';
import { havePackages, packageVersion } from './packages';
import { cacheFolder, Obstacle } from './system';
import { findPip } from './wheel';

/** One line of the doctor's report. */
export interface Finding {
  name: string;
  value: string;
  /** What is wrong and what to do about it. */
  advice?: string;
  /** Whether the lab cannot do its work before that is done. */
  serious?: boolean;
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** Looks at the machine, the engine and the tools around it, and changes nothing. `root` is the folder of this checkout. */
export async function examine(root: string): Promise<Finding[]> {
  const engine = JS_ASKED ?? currentEngine();
  const file = engine?.addon;
  const [npm, addon, sound, python, pip, compiler] = await Promise.all([
    execute('npm', ['--version']),
    file === undefined ? undefined : probe(cacheFolder(), file),
    file === undefined ? undefined : isSound(),
    execute('python3', ['--version']),
    pipVersion(),
    compilerVersion(),
  ]);
  const settingUp = engine?.kind !== 'tensorflow';
  return [
    nodeFinding(root),
    { name: 'npm', value: npm.code === 0 ? npm.output.trim() : 'not found' },
    {
      name: 'tfjs',
      value: havePackages()
        ? `${packageVersion('@tensorflow/tfjs')}, tfjs-node ${packageVersion('@tensorflow/tfjs-node')}`
        : 'not fetched yet',
    },
    { name: 'TensorFlow', value: addon?.version ?? 'none' },
    engineFinding(engine),
    addonFinding(file, addon, sound),
    threadsFinding(),
    { name: 'system', value: `${os.type()} ${os.release()} on ${process.arch}` },
    processorFinding(),
    { name: 'memory', value: `${gigabytes(os.totalmem())}, ${gigabytes(os.freemem())} of it free` },
    cacheFinding(),
    { name: 'Python', value: python.code === 0 ? python.output.trim().replace('Python ', '') : 'not found' },
    { name: 'pip', value: pip ?? 'not found: TensorFlow would come from the package index directly' },
    toolFinding('compiler', compiler, settingUp),
    kernelFinding(root),
  ];
}

/** What a tool says of its version in one line. */
async function versionLine([command = '', ...args]: string[]): Promise<string> {
  return (await execute(command, [...args, '--version'])).output.split('\n')[0] ?? '';
}

async function pipVersion(): Promise<string | undefined> {
  const pip = await findPip();
  return pip && versionLine(pip);
}

/** Or why there is no compiler. */
async function compilerVersion(): Promise<string | Obstacle> {
  try {
    return await versionLine([await findCompiler()]);
  } catch (error) {
    if (error instanceof Obstacle) return error;
    throw error;
  }
}

function nodeFinding(root: string): Finding {
  const { engines } = require(join(root, 'package.json')) as { engines: { node: string } };
  const numbers = (version: string): number[] => version.replace(/^\D+/, '').split('.').map(Number);
  const [major, minor] = numbers(process.version);
  const [leastMajor, leastMinor] = numbers(engines.node);
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor))
    return { name: 'Node', value: process.version };
  return {
    name: 'Node',
    value: process.version,
    advice: `Node ${leastMajor}.${leastMinor} or newer is needed.`,
    serious: true,
  };
}

function engineFinding(engine: Engine | undefined): Finding {
  const name = 'engine';
  if (!engine)
    return { name, value: 'not set up for the sources as they are now', advice: 'Run `npm run setup`.', serious: true };
  if (engine.kind === 'tensorflow' || engine === JS_ASKED) return { name, value: engine.description };
  return {
    name,
    value: engine.description,
    advice: 'Mend what is named here, then run `npm run setup`.',
    serious: true,
  };
}

function addonFinding(
  file: string | undefined,
  probed: { obstacle?: Obstacle } | undefined,
  sound: boolean | undefined,
): Finding {
  const name = 'addon';
  if (!file) return { name, value: 'none' };
  const { obstacle } = probed ?? {};
  if (obstacle) return { name, value: `${file}, does not load`, advice: obstacle.message, serious: true };
  if (sound) return { name, value: `${file}, loads; it and the library have the sums that were recorded` };
  return {
    name,
    value: `${file}, loads, but it or the library is not what was set up`,
    advice: 'Run `npm run setup`, which checks and replaces them.',
    serious: true,
  };
}

function processorFinding(): Finding {
  const features = processorFeatures(cacheFolder());
  const has = features ? `, ${describe(features)}` : '';
  const forced = process.env.EDGEVIT_ISA ? `, held to EDGEVIT_ISA=${process.env.EDGEVIT_ISA}` : '';
  const model = os.cpus()[0]?.model.trim() ?? 'unknown';
  return { name: 'processor', value: `${model}${has}${forced}, ${counted(os.cpus().length, 'core')}` };
}

/** How many threads TensorFlow takes inside an op and across ops, and OpenMP where the library uses it. */
function threadsFinding(): Finding {
  const set = THREAD_VARIABLES.filter(name => process.env[name] !== undefined);
  const odd = set.filter(name => !/^[1-9]\d*$/.test(process.env[name] ?? ''));
  const here = `${processors()} by cores, affinity and container quota`;
  const value = set.length
    ? set.map(name => `${name}=${process.env[name]}`).join(' ')
    : `${here} (none of ${THREAD_VARIABLES.join(', ')} is set)`;
  return {
    name: 'threads',
    value,
    advice: odd.length ? `${odd.join(' and ')} should be an integer above 0.` : undefined,
    serious: odd.length > 0,
  };
}

function cacheFinding(): Finding {
  const cache = cacheFolder();
  if (!existsSync(cache)) return { name: 'cache', value: `${cache}, not made yet` };
  const { bavail, bsize } = statfsSync(cache);
  return {
    name: 'cache',
    value: `${cache}, ${gigabytes(sizeOf(cache))}, ${gigabytes(bavail * bsize)} free on its disk`,
  };
}

function sizeOf(path: string): number {
  const entry = statSync(path, { throwIfNoEntry: false }); // a setup that runs right now may have removed it
  if (!entry?.isDirectory()) return entry?.size ?? 0;
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0);
}

function toolFinding(name: string, version: string | Obstacle, settingUp: boolean): Finding {
  if (typeof version === 'string') return { name, value: version };
  return settingUp
    ? { name, value: 'not found', advice: version.message, serious: true }
    : { name, value: 'not found, and not needed while the engine is in place' };
}

/** Whether a Jupyter here would find the notebooks' kernel: a kernel.json that starts something of this checkout. */
function kernelFinding(root: string): Finding {
  const folders = [join(root, '.jupyter'), userJupyter()];
  const files = folders
    .filter(folder => existsSync(folder))
    .flatMap(folder =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .filter(name => name.endsWith('kernel.json'))
        .map(name => join(folder, name)),
    );
  const ours = files.filter(file => readFileSync(file, 'utf8').includes(root));
  if (ours.length) return { name: 'Jupyter kernel', value: ours.join(', ') };
  return { name: 'Jupyter kernel', value: 'not registered', advice: 'Run `npm run kernel` if you want the notebooks.' };
}
