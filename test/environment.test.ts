import { execFileSync } from 'node:child_process';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { currentEngine } from '../lib/engine/build/install';
import { setOf } from '../lib/engine/build/isa';
import {
  decisive,
  type Environment,
  environment,
  environmentDifferences,
  FIELDS,
  recordedVariables,
  reproducibility,
} from '../lib/runs/environment';
import { environmentSchema } from '../lib/runs/schemas';
import { ROOT } from '../lib/util/root';

afterEach(() => void vi.unstubAllEnvs());

/** What differs from this process's environment where a variable is set. */
function withVariable(name: string, value: string): string[] {
  const before = environment();
  vi.stubEnv(name, value);
  return environmentDifferences(before, environment())
    .filter(({ decides }) => decides)
    .map(({ field }) => field);
}

describe('an environment', () => {
  test('is what its schema says, and the same twice', () => {
    expect(environmentSchema.parse(environment())).toEqual(environment());
    expect(environmentDifferences(environment(), environment())).toEqual([]);
    expect(Object.keys(environment()).sort()).toEqual(Object.keys(FIELDS).sort());
  });

  test.each([
    ['ONEDNN_MAX_CPU_ISA', 'SSE41', ['variables']],
    ['TF_ENABLE_ONEDNN_OPTS', 'no', ['variables']],
    ['EDGEVIT_FUSED', '7', ['variables']],
    ['VIPS_NOVECTOR', '1', ['variables']],
    ['TF_NUM_INTRAOP_THREADS', '31', []],
  ])('tells %s=%s', (name, value, fields) => expect(withVariable(name, value)).toEqual(fields));

  test('has variables with spaces, which a command sets again, and of a record nothing else', () => {
    vi.stubEnv('XLA_FLAGS', "--a=1 --b='2'\n");
    vi.stubEnv('ONEDNN_MAX_CPU_ISA', 'AVX2');
    const { variables } = environmentSchema.parse(environment());
    expect(recordedVariables(variables)).toContainEqual(['XLA_FLAGS', "--a=1 --b='2'\ufffd"]);
    expect(recordedVariables(variables)).toContainEqual(['ONEDNN_MAX_CPU_ISA', 'AVX2']);
    expect(recordedVariables('LD_PRELOAD=/x.so XLA_FLAGS=a; b NODE_OPTIONS=--require=x')).toEqual([
      ['XLA_FLAGS', 'a; b'],
    ]);
  });

  test('keeps to itself what is printed, and what belongs to other programs', () => {
    for (const name of [
      'TF_CPP_MIN_LOG_LEVEL',
      'ONEDNN_VERBOSE',
      'EDGEVIT_CACHE',
      'EDGEVIT_ISA',
      'TF_TOKEN_app',
      'TF_VAR_secret',
    ])
      expect(withVariable(name, '3')).toEqual([]);
  });

  test('tells the instruction set of the addon in use, whatever the processor has', () => {
    const { addon } = currentEngine() ?? {};
    expect(environment().instructionSet).toBe(addon ? setOf(addon)?.label : 'none');
  });

  test('tells another engine', () => {
    const script = `require('./lib/engine/open').openEngine().then(() =>
      console.log(JSON.stringify(require('./lib/runs/environment').environment())))`;
    const said = execFileSync(process.execPath, ['--import', 'tsx', '-e', script], {
      cwd: ROOT,
      encoding: 'utf8',
      env: { ...process.env, EDGEVIT_ENGINE: 'js' },
    });
    const there = JSON.parse(said.trim().split('\n').at(-1)!) as Environment;
    expect(there).toMatchObject({ engine: 'pure JavaScript', kernels: 'stock', instructionSet: 'none' });
    expect(environmentDifferences(there, environment()).map(({ field }) => field)).toEqual(
      expect.arrayContaining(['engine', 'kernels']),
    );
  });

  test('of an old record counts as different where that says nothing', () => {
    const { engine: _, ...old } = environment();
    expect(environmentDifferences(old, environment())).toEqual([
      expect.objectContaining({ field: 'engine', decides: true, how: expect.stringMatching(/^not recorded/) }),
    ]);
  });

  const MACHINE = {
    threads: 64,
    cpu: 'another',
    instructionSet: 'NEON',
    cpuFeatures: 'neon',
    node: 'v24.0.0',
    libc: 'musl',
  } as const;

  test("decides bytes by less than all of it: not by the machine, where kernels are the lab's own", () => {
    const here = { ...environment(), kernels: 'own' as const };
    expect(decisive({ ...here, git: null, cores: 99, lab: 'x', lockfile: 'x', code: 'x' })).toEqual(decisive(here));
    expect(decisive({ ...here, ...MACHINE })).toEqual(decisive(here));
    for (const other of [
      { numerics: here.numerics + 1 },
      { engine: 'x' },
      { packages: 'x' },
      { kernels: 'stock' as const },
    ])
      expect(decisive({ ...here, ...other })).not.toEqual(decisive(here));
  });

  test('decides by the machine too where kernels are stock, and before numerics were counted', () => {
    for (const other of [{ kernels: 'stock' as const }, { numerics: 0 }]) {
      const here = { ...environment(), ...other };
      for (const [field, value] of Object.entries(MACHINE))
        expect(decisive({ ...here, [field]: value }), field).not.toEqual(decisive(here));
    }
  });

  test('promises equal bytes on other machines where its kernels are the own ones, nowhere else', () => {
    const [needed, free] = reproducibility({ ...environment(), kernels: 'own' }).split('depend on none of');
    expect(needed).not.toMatch(/threads|processor|instruction set/);
    expect(free).toMatch(/threads.*processor.*instruction set/);
    for (const other of [{ kernels: 'stock' as const }, { numerics: 0 }]) {
      const said = reproducibility({ ...environment(), ...other });
      expect(said).toMatch(/are the same: .*threads.*processor.*instruction set/);
      expect(said).not.toContain('depend on none of');
    }
  });
});
