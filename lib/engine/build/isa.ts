import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { oneOf, UserError } from '../../util/errors';

/** What the addon is built for: one file for each, chosen at start by what the processor has. */
export interface InstructionSet {
  /** As `EDGEVIT_ISA` and the addon's file name spell it. */
  isa: 'portable' | 'avx2' | 'avx512' | 'neon';
  /** For people. */
  label: string;
  /** The compiler's, which g++ and clang both know. */
  flags: readonly string[];
  /** Features that the processor must have. */
  needs: readonly string[];
}

const AVX512 = ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'];

/** Narrowest first. */
const INSTRUCTION_SETS: Record<string, readonly InstructionSet[]> = {
  x64: [
    // Not x86-64 alone: TensorFlow's library itself needs AVX.
    { isa: 'portable', label: 'AVX', flags: ['-mavx'], needs: ['avx'] },
    { isa: 'avx2', label: 'AVX2', flags: ['-mavx2', '-mfma'], needs: ['avx2', 'fma'] },
    {
      isa: 'avx512',
      label: 'AVX-512',
      // Kernels ask for whole vectors themselves. What the compiler vectorises stays at 256 bits, as it does when told of a Xeon: wider ones lower its clock.
      flags: ['-mavx2', '-mfma', ...AVX512.map(name => `-m${name}`), '-mprefer-vector-width=256'],
      needs: ['avx2', 'fma', ...AVX512],
    },
  ],
  arm64: [{ isa: 'neon', label: 'NEON', flags: [], needs: ['neon'] }],
};

/** All that the addon can be built for on this architecture, narrowest first. */
export const machineSets: readonly InstructionSet[] = INSTRUCTION_SETS[process.arch] ?? [];

/** The source of the probe that reads CPUID. */
export const FEATURES_SOURCE = join(__dirname, 'features.cc');

/** Where the built probe is kept. */
export function featuresProbe(cache: string): string {
  const hash = createHash('sha256').update(process.platform).update(process.arch).update(readFileSync(FEATURES_SOURCE));
  return join(cache, `features-${hash.digest('hex').slice(0, 16)}.node`);
}

/** What the processor has, as this process sees it; undefined while the probe is not built. */
export function processorFeatures(cache: string): ReadonlySet<string> | undefined {
  const probe = featuresProbe(cache);
  if (!existsSync(probe)) return undefined;
  try {
    const { features } = createRequire(__filename)(probe) as { features: string };
    return new Set(features.split(' ').filter(Boolean));
  } catch {
    return undefined; // of another system, or damaged: it is built anew
  }
}

/** The sets that a processor with these features can run, narrowest first. */
export function supportedSets(features: ReadonlySet<string>): InstructionSet[] {
  return machineSets.filter(({ needs }) => needs.every(feature => features.has(feature)));
}

/** The widest set that the processor has, or the one that `EDGEVIT_ISA` forces. Throws a UserError where it lacks that one; undefined where it has none at all. */
export function chooseSet(features: ReadonlySet<string>): InstructionSet | undefined {
  const supported = supportedSets(features);
  const forced = process.env.EDGEVIT_ISA;
  if (!forced) return supported.at(-1);
  const chosen = supported.find(({ isa }) => isa === forced);
  if (chosen) return chosen;
  throw new UserError(
    `EDGEVIT_ISA is '${forced}', which this processor does not have: allowed here ${supported.length === 1 ? 'is' : 'are'} ${oneOf(supported.map(({ isa }) => isa)) || 'none'}.`,
  );
}

/** The set that a built addon is for, as the file itself says; undefined where it does not. */
export function setOf(addon: string): InstructionSet | undefined {
  const isa = /EDGEVIT_ISA=(\w+);/.exec(readFileSync(addon, 'latin1'))?.[1];
  return machineSets.find(set => set.isa === isa);
}

/** For people: an instruction set by the name that `EDGEVIT_ISA` has for it. */
export function labelOf(isa: string): string {
  return machineSets.find(set => set.isa === isa)?.label ?? isa;
}

/** For people: what a processor with these features has. */
export function describe(features: ReadonlySet<string>): string {
  return supportedSets(features).at(-1)?.label ?? 'no AVX';
}
