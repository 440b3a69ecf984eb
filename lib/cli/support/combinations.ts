import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findFeatures } from '../../engine/build/addon';
import { type InstructionSet, machineSets, supportedSets } from '../../engine/build/isa';
import { cacheFolder } from '../../engine/build/system';
import { inScratch, moveFolder } from '../../util/folders';
import { execute } from '../../util/processes';
import { ROOT } from '../../util/root';
import { counted } from '../../util/text';

/** One way to compute the golden digests. */
export interface Combination {
  threads: number;
  isa: InstructionSet['isa'];
  compiler: string;
  /** The program, by its path, and its version. */
  node: { path: string; version: string };
  /** Other environment variables. */
  env?: Record<string, string>;
}

/** What a machine can vary, each the usual one first; and what it can't, with the reason. */
export interface Factors {
  threads: readonly number[];
  isas: readonly InstructionSet['isa'][];
  compilers: readonly string[];
  nodes: readonly Combination['node'][];
  skipped: readonly string[];
}

const THREADS = [2, 1, 3];
const COMPILERS = ['g++', 'clang++', 'g++-11', 'clang++-16', 'clang++-19'];
const NODE_MAJORS = [20, 22, 24];

/** Vector code in what decodes images, off. */
export const PLAIN_IMAGES = { VIPS_NOVECTOR: '1', JSIMD_FORCENONE: '1' };

/** What of threads, instruction sets, compilers and Node versions this machine can run; Node is fetched by npm where it is missing. */
export async function findFactors(say: (line: string) => void): Promise<Factors> {
  const skipped: string[] = [];
  const supported = supportedSets(await findFeatures(cacheFolder()));
  for (const set of machineSets) if (!supported.includes(set)) skipped.push(`${set.isa}: this processor lacks it`);
  const compilers: string[] = [];
  for (const name of COMPILERS) {
    const { code, missing } = await execute(name, ['--version']);
    if (code === 0) compilers.push(name);
    else skipped.push(`${name}: ${missing ? 'not installed' : 'does not run'}`);
  }
  const nodes = [{ path: process.execPath, version: process.version }];
  for (const major of NODE_MAJORS) {
    if (process.version.startsWith(`v${major}.`)) continue;
    const found = await findNode(major, say);
    if (typeof found === 'string') skipped.push(`Node ${major}: ${found}`);
    else nodes.push(found);
  }
  return { threads: THREADS, isas: supported.map(({ isa }) => isa).reverse(), compilers, nodes, skipped };
}

/** A Node of this major version, from npm, kept in the cache; a string says why there is none. */
async function findNode(major: number, say: (line: string) => void): Promise<Combination['node'] | string> {
  const name = `node-${process.platform}-${process.arch}`;
  const folder = join(cacheFolder(), `node-${major}`);
  if (!existsSync(folder)) {
    say(`Fetching ${name}@${major} by npm.`);
    const problem = await inScratch(cacheFolder(), async scratch => {
      const install = ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', scratch];
      const { code, output } = await execute('npm', [...install, `${name}@${major}`]);
      if (code !== 0) return `npm could not install ${name}@${major} (${output.trim().split('\n')[0]})`;
      moveFolder(scratch, folder);
      return undefined;
    });
    if (problem !== undefined) return problem;
  }
  const path = join(folder, 'node_modules', name, 'bin/node');
  const { code, output } = await execute(path, ['--version']);
  return code === 0 ? { path, version: output.trim() } : `${path} does not run here`;
}

/** All combinations of what a machine can vary, the usual one first. */
export function allCombinations({ nodes, compilers, isas, threads }: Factors): Combination[] {
  return nodes.flatMap(node =>
    compilers.flatMap(compiler => isas.flatMap(isa => threads.map(count => ({ node, compiler, isa, threads: count })))),
  );
}

/** Few of these combinations in which every two values of different factors meet at least once, or as many such pairs as `most` can hold. */
export function pairwiseCombinations(candidates: readonly Combination[], most: number): Combination[] {
  const pairs = ({ threads, isa, compiler, node }: Combination): string[] => {
    const values = [`threads ${threads}`, isa, compiler, node.version];
    return values.flatMap((a, i) => values.slice(i + 1).map(b => `${a}|${b}`));
  };
  const covered = new Set<string>();
  const chosen: Combination[] = [];
  const gain = (each: Combination): number => pairs(each).filter(pair => !covered.has(pair)).length;
  while (chosen.length < most) {
    const best = candidates.reduce((a, b) => (gain(b) > gain(a) ? b : a));
    if (gain(best) === 0) break;
    chosen.push(best);
    for (const pair of pairs(best)) covered.add(pair);
  }
  return chosen;
}

export function describeCombination({ threads, isa, compiler, node, env }: Combination): string {
  const more = Object.entries(env ?? {}).map(([key, value]) => `${key}=${value}`);
  return [`Node ${node.version}`, compiler, isa, counted(threads, 'thread'), ...more].join(', ');
}

/** The golden digests by one combination, in a process of its own: its exit status and what it says. */
export async function runCombination(
  { threads, isa, compiler, node, env }: Combination,
  only?: string,
): Promise<{ code: number | null; output: string }> {
  const args = ['--import', 'tsx', 'lib/cli/main.ts', 'verify', `--threads=${threads}`];
  return execute(node.path, [...args, ...(only === undefined ? [] : [`--only=${only}`])], {
    cwd: ROOT,
    env: { ...process.env, EDGEVIT_ISA: isa, EDGEVIT_CXX: compiler, ...env },
  });
}

/** All combinations, one after the other; whether each computes the golden digests. */
export async function verifyAll(only: string | undefined, say: (line: string) => void): Promise<boolean> {
  const factors = await findFactors(say);
  const all = allCombinations(factors);
  const combinations = [all[0]!, { ...all[0]!, env: PLAIN_IMAGES }, ...all.slice(1)];
  let same = 0;
  for (const combination of combinations) {
    const { code, output } = await runCombination(combination, only);
    const lines = output.trimEnd().split('\n');
    if (code === 0) same++;
    say(`${code === 0 ? 'same     ' : 'DIFFERENT'} ${describeCombination(combination)}: ${lines.at(-1)}`);
    if (code !== 0)
      say(lines.filter((line, i) => /^DIFFERENT/.test(line) || /^DIFFERENT/.test(lines[i - 1] ?? '')).join('\n'));
  }
  for (const reason of factors.skipped) say(`skipped   ${reason}`);
  say(`${same} of ${counted(combinations.length, 'combination')} the same to the byte`);
  return same === combinations.length;
}
