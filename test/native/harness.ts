import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execute } from '../../lib/util/processes';

/**
 * The lab's kernels without TensorFlow (harness.cc), by any compiler and for any processor.
 *
 *   tsx test/native/harness.ts fuzz [COUNT] [SEED]   under AddressSanitizer and UndefinedBehaviorSanitizer; all its shapes are named if it ends early
 *   tsx test/native/harness.ts digest                the same digests by all compilers and instruction sets that are here
 */

const NATIVE = join(__dirname, '../../lib/engine/native');

/** Those that are TensorFlow's or Node's side of the addon. */
const GLUE = ['addon.cc', 'tensorflow.cc'];

interface Target {
  name: string;
  compiler: string;
  flags: string[];
  /** What runs the program, where this processor can't. */
  runner?: string[];
}

const X64: Target[] = [
  { name: 'g++, portable (SSE2)', compiler: 'g++', flags: ['-O2'] },
  { name: 'g++, AVX2 and FMA', compiler: 'g++', flags: ['-O3', '-mavx2', '-mfma'] },
  { name: 'clang++, AVX2 and FMA', compiler: 'clang++', flags: ['-O3', '-mavx2', '-mfma'] },
  {
    name: "g++, AVX-512's code by AVX2",
    compiler: 'g++',
    flags: ['-O3', '-mavx2', '-mfma', '-Wno-psabi', '-include', join(__dirname, 'avx512.h')],
  },
  { name: 'g++, AVX-512', compiler: 'g++', flags: ['-O3', '-mavx512f', '-mavx512vl', '-mavx512dq', '-mfma'] },
];
const ARM: Target = {
  name: 'g++, NEON',
  compiler: 'aarch64-linux-gnu-g++',
  flags: ['-O2', '-static'],
  runner: ['qemu-aarch64'],
};
const TARGETS = process.arch === 'x64' ? [...X64, ARM] : [{ name: 'g++', compiler: 'g++', flags: ['-O3'] }];

/** Builds the harness in `folder`; what the compiler says if it can't. */
async function build(folder: string, { compiler, flags }: Target): Promise<{ program: string; problem?: string }> {
  const program = join(folder, 'harness');
  const sources = readdirSync(NATIVE).filter(file => file.endsWith('.cc') && !GLUE.includes(file));
  const { code, missing, output } = await execute(compiler, [
    ...['-std=c++17', '-ffp-contract=off', '-pthread', ...flags, `-I${NATIVE}`, join(__dirname, 'harness.cc')],
    ...sources.map(file => join(NATIVE, file)),
    ...['-o', program],
  ]);
  return { program, problem: code === 0 ? undefined : missing ? `${compiler} is not here` : output };
}

async function inFolder<T>(fn: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-harness-'));
  try {
    return await fn(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function fuzz(count: string, seed: string): Promise<void> {
  const flags = ['-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  for (const isa of process.arch === 'x64' ? [[], ['-mavx2', '-mfma']] : [[]]) {
    await inFolder(async folder => {
      const { program, problem } = await build(folder, { name: '', compiler: 'g++', flags: [...flags, ...isa] });
      if (problem) throw new Error(problem);
      const { code, signal, output } = await execute(program, ['fuzz', count, seed]);
      const lines = output.trim().split('\n');
      if (code === 0) return console.log(`${['g++', ...isa].join(' ')}: ${lines.at(-1)}`);
      console.log(lines.slice(-40).join('\n'));
      process.exitCode = 1;
      console.log(`${['g++', ...isa].join(' ')}: ended by ${signal ?? code}`);
    });
  }
}

async function digest(): Promise<void> {
  let first: { name: string; lines: string[] } | undefined;
  for (const target of TARGETS) {
    await inFolder(async folder => {
      const { program, problem } = await build(folder, target);
      if (problem) return console.log(`${target.name}: not tried (${problem.trim().split('\n')[0]})`);
      for (const threads of ['1', '3']) {
        const [command, ...args] = [...(target.runner ?? []), program, 'digest', threads];
        const { code, signal, missing, output } = await execute(command!, args);
        const what = `${target.name}, ${threads} thread${threads === '1' ? '' : 's'}`;
        if (missing) return console.log(`${what}: built; not run, for ${command} is not here`);
        if (signal === 'SIGILL') return console.log(`${what}: built; not run, for this processor lacks it`);
        if (code !== 0) {
          process.exitCode = 1;
          return console.log(`${what}: ended by ${signal ?? code}\n${output}`);
        }
        const lines = output.trim().split('\n');
        first ??= { name: what, lines };
        const different = lines.filter((line, i) => line !== first!.lines[i]);
        console.log(`${what}: ${lines.length} runs, ${different.length} differ from ${first.name}`);
        if (different.length) {
          process.exitCode = 1;
          for (const line of different.slice(0, 5)) console.log(`  ${line}`);
        }
      }
    });
  }
}

const [mode, count = '2000', seed = '1'] = process.argv.slice(2);
void (mode === 'fuzz' ? fuzz(count, seed) : digest());
