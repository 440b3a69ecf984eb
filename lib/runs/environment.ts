import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { nodeBackend } from '../engine/binding';
import { instructionSet } from '../engine/machine';
import { ops, stockOps } from '../tensor/ops';
import { isNative, tf } from '../tensor/tf';
import { ROOT } from '../util/root';
import { printable } from '../util/text';
import { threadsPerOp } from '../util/threads';
import { codeDigest } from './code';

export { ROOT };

/** The version of what the lab computes: it rises whenever an equal recipe ends at other bytes. Results of before it was counted have 0. */
export const NUMERICS = 2;

/** What a run ran on, whole: where two runs of one recipe differ in a bit, the reason is here. */
export interface Environment {
  numerics: number;
  /** `codeDigest`: of the sources that decide what a run computes. */
  code: string;
  /** `TensorFlow 2.19.1`, or `pure JavaScript`. */
  engine: string;
  /** Whether graphs are made of the lab's own kernels or of stock ops. */
  kernels: 'own' | 'stock';
  /** Of TensorFlow inside one op: sums of stock ops round otherwise by another number of them. */
  threads: number;
  /** Name, and where the system tells them family, model and stepping: machines that share a name need not share kernels. */
  cpu: string;
  /** What the addon in use is built for: `AVX-512`, `AVX2`, `AVX`, `NEON`; `none` in pure JavaScript. */
  instructionSet: string;
  /** Extensions among which math libraries choose their kernels, in alphabetical order. */
  cpuFeatures: string;
  /** Environment variables that math and image libraries read, as `A=1 B=2`, in alphabetical order. */
  variables: string;
  tfjs: string;
  /** Versions of other packages that bytes pass through. */
  packages: string;
  /** It decodes and resizes images. */
  libvips: string;
  node: string;
  platform: string;
  /** The C library, whose `exp` and `log` some kernels call. */
  libc: string;
  cores: number;
  lab: string;
  /** Null outside a git checkout. `dirty` where sources or dependencies are not as committed. */
  git: { commit: string; dirty: boolean } | null;
  /** sha256 of package-lock.json. */
  lockfile: string;
}

/**
 * Whether a field can decide a byte of the result. The lab's own kernels compute the same on any processor, by any number of threads: what these are
 * decides (`stock`) only where graphs are made of TensorFlow's. Anything else is information; so is the code, as whatever alters bytes raises
 * `numerics`, and test/golden.json shows that nothing else does.
 */
type Decides = 'always' | 'stock' | 'never';

/** What each field is called, and whether it decides. */
export const FIELDS: Readonly<Record<keyof Environment, { name: string; decides: Decides }>> = {
  numerics: { name: 'numerics', decides: 'always' },
  code: { name: 'code', decides: 'never' },
  engine: { name: 'engine', decides: 'always' },
  kernels: { name: 'kernels', decides: 'always' },
  threads: { name: 'threads', decides: 'stock' },
  cpu: { name: 'processor', decides: 'stock' },
  instructionSet: { name: 'instruction set', decides: 'stock' },
  cpuFeatures: { name: 'processor features', decides: 'stock' },
  variables: { name: 'environment variables', decides: 'always' },
  tfjs: { name: 'tfjs', decides: 'always' },
  packages: { name: 'packages', decides: 'always' },
  libvips: { name: 'libvips', decides: 'always' },
  node: { name: 'Node', decides: 'stock' },
  // No training on Arm, and none on macOS, has been compared yet.
  platform: { name: 'platform', decides: 'always' },
  libc: { name: 'C library', decides: 'stock' },
  cores: { name: 'cores', decides: 'never' },
  lab: { name: 'version of the lab', decides: 'never' },
  git: { name: 'commit', decides: 'never' },
  lockfile: { name: 'package-lock.json', decides: 'never' },
};

/** Whether a field can decide a byte of what is trained in an environment. */
export function decides(field: keyof Environment, { kernels, numerics }: Partial<Environment>): boolean {
  const { decides } = FIELDS[field];
  const isOwn = kernels === 'own' && numerics !== undefined && numerics > 0; // before, their sums depended on the processor
  return decides === 'always' || (decides === 'stock' && !isOwn);
}

const KEYS = Object.keys(FIELDS) as (keyof Environment)[];

/** Records all that can decide a byte of what this process trains, and what helps to find it again. The engine is loaded by it. */
export function environment(): Environment {
  const { name, features } = processor();
  return {
    numerics: NUMERICS,
    code: codeDigest(),
    engine: isNative() ? `TensorFlow ${nodeBackend().binding.TF_Version}` : 'pure JavaScript',
    kernels: ops === stockOps ? 'stock' : 'own',
    threads: threadsPerOp(),
    cpu: name,
    instructionSet: instructionSet(),
    cpuFeatures: features.join(' '),
    variables: variables(),
    tfjs: tf.version_core,
    packages: PACKAGES.map(each => `${each} ${versionOf(each)}`).join(', '),
    libvips: sharp.versions.vips,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    libc: libc(),
    cores: cpus().length,
    lab: (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version,
    git: gitState(),
    lockfile: createHash('sha256')
      .update(readFileSync(join(ROOT, 'package-lock.json')))
      .digest('hex'),
  };
}

/** One thing that two environments do not have in common. */
export interface EnvironmentDifference {
  field: keyof Environment;
  /** In words for a person: what, and how. */
  what: string;
  how: string;
  /** Whether bytes may differ because of it. */
  decides: boolean;
}

/** Where two environments differ, what can decide bytes first. What an older record does not tell counts as different. */
export function environmentDifferences(there: Partial<Environment>, here: Environment): EnvironmentDifference[] {
  return KEYS.filter(field => JSON.stringify(there[field]) !== JSON.stringify(here[field])).map(field => ({
    field,
    what: FIELDS[field].name,
    how: `${shown(field, there)} there, ${shown(field, here)} here`,
    decides: decides(field, there) || decides(field, here),
  }));
}

/** What of an environment can decide bytes: runs of equal recipes and images where it is equal end at equal bytes. */
export function decisive(environment: Environment): Partial<Environment> {
  return Object.fromEntries(
    KEYS.filter(field => decides(field, environment)).map(field => [field, environment[field]]),
  );
}

/** What has to be the same for equal bytes of what was trained in an environment, and what of it needs not be, in words. */
export function reproducibility(environment: Partial<Environment>): string {
  const deciding = KEYS.filter(field => decides(field, environment));
  const free = KEYS.filter(field => FIELDS[field].decides === 'stock' && !deciding.includes(field));
  const names = (fields: readonly (keyof Environment)[]): string => fields.map(field => FIELDS[field].name).join(', ');
  const rest = free.length > 0 ? ` By its own kernels they depend on none of: ${names(free)}.` : '';
  return `Equal recipes on equal images give equal bytes where these are the same: ${names(deciding)}.${rest}`;
}

/** A field's value for a person: digests and commits by their beginning. */
export function shown(field: keyof Environment, environment: Partial<Environment>): string {
  const value = environment[field];
  if (value === undefined) return 'not recorded';
  if (value === null) return 'none';
  if (typeof value === 'object') return `${value.commit.slice(0, 12)}${value.dirty ? ' with changes' : ''}`;
  if (field === 'code' || field === 'lockfile') return String(value).slice(0, 12);
  return value === '' ? 'none' : String(value);
}

/** Packages that bytes pass through, beside tfjs: random numbers, and images. */
const PACKAGES = ['seedrandom', 'sharp'];

function versionOf(name: string): string {
  const path = join(ROOT, 'node_modules', name, 'package.json');
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version : 'elsewhere';
}

/**
 * Variables by which TensorFlow, oneDNN, OpenMP, libvips and the lab's engine choose how they compute. Of TensorFlow's only these: Terraform's
 * begin with TF_ too, and hold secrets.
 */
const READ_BY_LIBRARIES =
  /^(TF_(ENABLE|DISABLE|USE|FORCE|ONEDNN|MKL|XLA|SET|DETERMINISTIC|OVERRIDE|CPU|AUTO)_?|XLA_|ONEDNN_|DNNL_|MKL_|OMP_|GOMP_|KMP_|OPENBLAS_|VIPS_|EDGEVIT_)/;
/** Of these: what is printed, where files are, the threads and the instruction set, which have fields of their own, and the addon's compiler. */
const WITHOUT_EFFECT =
  /^(OMP_NUM_THREADS|EDGEVIT_(ISA|CXX))$|_(VERBOSE|CACHE|LOG|DIR|PATH|FILE|FOLDER)$|^VIPS_(CONCURRENCY|INFO|WARNING|LEAK|PROFILE)$/;

function variables(): string {
  return Object.entries(process.env)
    .filter(([name]) => READ_BY_LIBRARIES.test(name) && !WITHOUT_EFFECT.test(name))
    .map(([name, value]) => `${name}=${printable(value ?? '')}`)
    .sort()
    .join(' ');
}

/** The variables of a record one by one, with their values, which may have spaces. Others than those are none: anyone may have written it. */
export function recordedVariables(variables: string): [name: string, value: string][] {
  return variables
    .split(/ (?=[A-Z][A-Z0-9_]*=)/)
    .map((each): [string, string] => [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)])
    .filter(([name]) => READ_BY_LIBRARIES.test(name) && !WITHOUT_EFFECT.test(name) && /^\w+$/.test(name));
}

/** Extensions that oneDNN, Eigen, libvips and the lab's own kernels look for. */
const EXTENSION =
  /^(sse2|sse4_[12]|ssse3|avx|f16c|fma|avx2|avx_vnni|avx512\w*|amx_\w+|asimd\w*|neon|sve\w*|bf16|i8mm|fphp|dotprod)$/;

/** From /proc/cpuinfo where there is one, else what Node says. */
function processor(): { name: string; features: string[] } {
  const model = cpus()[0]?.model.trim() || 'unknown';
  let first: string;
  try {
    [first] = readFileSync('/proc/cpuinfo', 'utf8').split('\n\n');
  } catch {
    return { name: model, features: [] };
  }
  const value = (key: string): string | undefined => new RegExp(`^${key}\\s*:\\s*(.*)$`, 'm').exec(first)?.[1].trim();
  const numbers = Object.entries({
    family: value('cpu family'),
    model: value('model') ?? value('CPU part'),
    stepping: value('stepping') ?? value('CPU revision'),
  }).flatMap(([what, number]) => (number === undefined ? [] : [`${what} ${number}`]));
  const features = (value('flags') ?? value('Features') ?? '').split(' ').filter(flag => EXTENSION.test(flag));
  return { name: [model, ...numbers].join(', '), features: features.sort() };
}

let libcVersion: string | undefined;

/** Asked once: Node's report takes its time. */
function libc(): string {
  if (libcVersion === undefined) {
    const { header } = (process.report?.getReport() ?? {}) as { header?: { glibcVersionRuntime?: string } };
    libcVersion = header?.glibcVersionRuntime === undefined ? 'of the system' : `glibc ${header.glibcVersionRuntime}`;
  }
  return libcVersion;
}

/** Files on which a rerun depends. Results, notebooks and texts that were edited do not make a commit another one. */
const DECIDING_PATHS = ['lib', 'package.json', 'package-lock.json', 'tsconfig.json'];

function gitState(): Environment['git'] {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return {
      commit: git('rev-parse', 'HEAD'),
      dirty: git('status', '--porcelain', '--', ...DECIDING_PATHS) !== '',
    };
  } catch {
    return null; // no git, or an archive of the sources
  }
}
