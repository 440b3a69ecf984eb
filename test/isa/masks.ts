import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../../lib/util/processes';

/** Processors that a process can be shown: a Haswell or Zen 3, with neither AVX-512 nor VNNI, and a Skylake-X, without VNNI, BF16 and AMX. */
export const MASKS = ['haswell', 'vnni'] as const;
export type Mask = (typeof MASKS)[number];

/** How to run a program so that it sees the lesser processor. */
export interface Masked {
  command: (...program: string[]) => [string, string[]];
  env: Record<string, string>;
  how: string;
}

async function build(source: string, target: string, ...flags: string[]): Promise<string> {
  const { code, output } = await execute(process.env.CC ?? 'cc', [
    '-O2',
    ...flags,
    join(__dirname, source),
    '-o',
    target,
    '-ldl',
  ]);
  if (code !== 0) throw new Error(`${source} does not compile: ${output}`);
  return target;
}

/**
 * A way to run programs masked, which has been proved: CPUID, asked by such a program, has none of what shall be hidden. A string
 * says why this machine has no way. `folder` takes what is built.
 */
export async function findMask(mask: Mask, folder: string): Promise<Masked | string> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'masks are for Linux on x64';
  mkdirSync(folder, { recursive: true });
  const cpuid = await build('cpuid.c', join(folder, 'cpuid'));
  const seen = async (
    command: string,
    args: string[],
    env: Record<string, string> = {},
  ): Promise<string[] | undefined> => {
    const { code, output } = await execute(command, args, { env: { ...process.env, ...env } });
    return code === 0 ? output.split('\n').filter(line => /^\w+$/.test(line)) : undefined;
  };
  const here = (await seen(cpuid, [])) ?? [];
  if (mask === 'vnni' && !here.includes('avx512f'))
    return 'this processor has no AVX-512, which the mask leaves to see';
  const proved = (features: string[] | undefined): boolean =>
    features !== undefined && (mask === 'vnni' ? features.join() === 'avx512f' : features.length === 0);

  const env = { LD_PRELOAD: await build('mask.c', join(folder, 'mask.so'), '-shared', '-fPIC'), MASK: mask };
  const masked = await seen(cpuid, [], env);
  if (masked && !proved(masked)) throw new Error(`The mask hides too little or too much: ${masked.join(', ')}.`);
  if (masked) return { command: (program, ...args) => [program!, args], env, how: 'CPUID faulting' };

  if (mask === 'vnni') return 'this system has no CPUID faulting, and qemu no AVX-512';
  const qemu = ['-cpu', 'Haswell'];
  if (!proved(await seen('qemu-x86_64', [...qemu, cpuid])))
    return 'this system has no CPUID faulting, and qemu-x86_64 (Debian: qemu-user) is not here';
  return { command: (...program) => ['qemu-x86_64', [...qemu, ...program]], env: {}, how: 'qemu-x86_64 -cpu Haswell' };
}
