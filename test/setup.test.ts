import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import JSZip from 'jszip';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ADDON } from '../lib/engine/build/addon';
import type { Finding } from '../lib/engine/build/doctor';
import { currentEngine, type Engine } from '../lib/engine/build/install';
import { cacheFolder } from '../lib/engine/build/system';
import { installLibrary, isComplete, libraryFolder, type Wheel } from '../lib/engine/build/wheel';
import { execute, type Outcome } from '../lib/util/processes';

const ROOT = join(__dirname, '..');

/** Every test has a folder with a cache, a `bin` that is the whole PATH, and a list of the stubs that were called. */
let folder: string;
let cache: string;
let bin: string;
let calls: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgevit-setup-'));
  cache = join(folder, 'cache');
  bin = join(folder, 'bin');
  calls = join(folder, 'calls');
  mkdirSync(cache);
  mkdirSync(bin);
  writeFileSync(calls, '');
  vi.stubEnv('EDGEVIT_CACHE', cache);
  vi.stubEnv('EDGEVIT_ENGINE', undefined);
  vi.stubEnv('CXX', undefined);
  vi.stubEnv('PATH', bin);
});

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

/** Puts a program on the PATH. `--version` works; all else is up to `script`, where $out is what -o or --dest names. */
function stub(name: string, script: string): void {
  writeFileSync(
    join(bin, name),
    `#!/bin/sh
case "$*" in *--version) echo ${name} 1.0; exit 0;; esac
echo ${name} >> ${calls}
PATH=/usr/bin:/bin
for argument; do
  case "$argument" in --dest=*) out="\${argument#--dest=}";; esac
  [ "$previous" = -o ] && out="$argument"
  previous="$argument"
done
${script}
`,
  );
  chmodSync(join(bin, name), 0o755);
}

const timesCalled = (name: string): number =>
  readFileSync(calls, 'utf8')
    .split('\n')
    .filter(line => line === name).length;

const obstacle = (advice: RegExp): unknown =>
  expect.objectContaining({ name: 'Obstacle', message: expect.stringMatching(advice) });

describe('the library', () => {
  const LIBRARY = 'tensorflow/libtensorflow_cc.so.2';
  const MEMBERS = {
    [LIBRARY]: 'library',
    'tensorflow/include/tensorflow/c/c_api.h': 'header',
    'tensorflow/python/module.py': 'not for us',
  };
  let wheel: Wheel;
  const install = (): Promise<void> => installLibrary(cache, wheel, () => {});

  beforeEach(async () => {
    const zip = new JSZip();
    for (const [name, text] of Object.entries(MEMBERS)) zip.file(name, text);
    const bytes = await zip.generateAsync({ type: 'nodebuffer' });
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    wheel = {
      package: 'tensorflow',
      platforms: ['any'],
      bytes: bytes.length,
      sha256,
      libraries: { [LIBRARY]: MEMBERS[LIBRARY].length },
    };
    writeFileSync(join(folder, 'published.whl'), bytes);
    stub('pip', `cp ${folder}/published.whl "$out"`);
    vi.spyOn(process.stderr, 'write').mockReturnValue(true); // progress
  });

  test('is downloaded once; only libraries and headers are kept', async () => {
    await install();
    await install();
    expect(timesCalled('pip')).toBe(1);
    expect(readdirSync(libraryFolder(cache), { recursive: true }).sort()).toEqual([
      'include',
      'include/tensorflow',
      'include/tensorflow/c',
      'include/tensorflow/c/c_api.h',
      'libtensorflow_cc.so.2',
    ]);
    expect(readdirSync(cache)).toHaveLength(1);
  });

  test('is replaced when damaged', async () => {
    await install();
    truncateSync(join(libraryFolder(cache), 'libtensorflow_cc.so.2'), 3);
    await install();
    expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    expect(readdirSync(cache)).toHaveLength(1);
  });

  test('may be installed by several at once', async () => {
    await Promise.all([install(), install(), install()]);
    expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    expect(readdirSync(cache)).toHaveLength(1);
  });

  test.each([
    ['a tampered wheel', 'cp "$out/../../published.whl" "$out"; echo more >> "$out/published.whl"', /sha256/],
    ['a full disk', 'echo half > "$out/x.whl"; echo "[Errno 28] No space left on device"; exit 2', /EDGEVIT_CACHE/],
    [
      'no network',
      'echo half > "$out/x.whl"; echo "NewConnectionError"; echo "ERROR: No matching distribution found"; exit 1',
      /network/,
    ],
    ['an index without it', 'echo "ERROR: No matching distribution found"; exit 1', /index/],
    ['any other failure', 'echo "ERROR: boom"; exit 1', /boom/],
  ])('after %s nothing is left and the advice fits', async (_failure, script, advice) => {
    stub('pip', script);
    await expect(install()).rejects.toEqual(obstacle(advice));
    expect(readdirSync(cache)).toEqual([]);
  });

  test('asks for pip where there is none', async () => {
    rmSync(join(bin, 'pip'));
    await expect(install()).rejects.toEqual(obstacle(/pip/));
  });
});

describe('the machine', () => {
  const { arch } = process;

  afterEach(() => {
    Object.defineProperty(process, 'arch', { value: arch });
    vi.resetModules();
  });

  test('may be one that TensorFlow is not published for', async () => {
    Object.defineProperty(process, 'arch', { value: 'riscv64' });
    vi.resetModules();
    const { machineWheel, requireWheel } = await import('../lib/engine/build/wheel');
    expect(machineWheel).toBeUndefined();
    expect(requireWheel).toThrow(obstacle(/riscv64/) as Error);
  });

  test.runIf(process.platform === 'linux').each([undefined, '2.12'])(
    'may have a C library that is too old (glibc %s)',
    async glibcVersionRuntime => {
      vi.spyOn(process.report, 'getReport').mockReturnValue({ header: { glibcVersionRuntime } });
      const { requireWheel } = await import('../lib/engine/build/wheel');
      expect(requireWheel).toThrow(obstacle(/glibc/) as Error);
    },
  );
});

/** A copy of what sets the engine up, with a tfjs-node package of its own whose installer fails, so that the real addon stays as it is. */
function makeCheckout() {
  const root = join(folder, 'checkout');
  const modules = join(root, 'node_modules');
  const tfjsNode = '@tensorflow/tfjs-node';
  const copy = (name: string): void => cpSync(join(ROOT, name), join(root, name), { recursive: true });
  ['lib', 'package.json'].forEach(copy);
  [`node_modules/${tfjsNode}/package.json`, `node_modules/${tfjsNode}/binding`].forEach(copy);
  for (const name of ['@tensorflow/tfjs', 'commander', 'node-api-headers', 'tsx', 'yauzl'])
    symlinkSync(join(ROOT, 'node_modules', name), join(modules, name));
  writeFileSync(
    join(root, 'ensure.ts'),
    `import { ensureEngine } from './lib/engine/build/install';
    void ensureEngine({ retry: process.argv.includes('retry') }).then(engine => console.log(JSON.stringify(engine)));`,
  );

  const command = (file: string, args: string[]): [string, string[], { cwd: string; env: NodeJS.ProcessEnv }] => [
    process.execPath,
    ['--import', 'tsx', file, ...args],
    { cwd: root, env: { ...process.env, NODE_OPTIONS: '' } },
  ];
  const checkout = {
    addon: join(modules, tfjsNode, 'lib/napi-v8/tfjs_binding.node'),
    source: join(root, 'lib/engine/native/addon.cc'),
    /** tfjs-node's own installer becomes this script. */
    installer(script: string): void {
      mkdirSync(join(modules, tfjsNode, 'scripts'), { recursive: true });
      writeFileSync(
        join(modules, tfjsNode, 'scripts/install.js'),
        `require('fs').appendFileSync(${JSON.stringify(calls)}, 'installer\\n');${script}`,
      );
    },
    cli: (...args: string[]): Promise<Outcome> => execute(...command('lib/cli/main.ts', args)),
    start: (...args: string[]) => spawn(...command('lib/cli/main.ts', args)),
    async ensure(...args: string[]): Promise<Engine> {
      const { output } = await execute(...command('ensure.ts', args));
      return JSON.parse(output.trim().split('\n').pop() ?? '') as Engine;
    },
  };
  checkout.installer('throw new Error("offline")');
  return checkout;
}

describe('without TensorFlow', () => {
  test('the way ends at pure JavaScript, announced, and only setup tries again', async () => {
    const checkout = makeCheckout();
    expect(await checkout.ensure()).toMatchObject({ kind: 'js', description: expect.stringMatching(/pip/) });
    expect(await checkout.ensure()).toMatchObject({ kind: 'js', description: expect.stringMatching(/pip/) });
    expect(timesCalled('installer')).toBe(1);
    expect(await checkout.cli('setup')).toMatchObject({ code: 0, output: expect.stringMatching(/pip[\s\S]*SLOWER/) });
    expect(timesCalled('installer')).toBe(2);
    expect(existsSync(checkout.addon)).toBe(false);
  });

  test('the doctor says what is wrong', async () => {
    const { code, output } = await makeCheckout().cli('doctor', '--json');
    expect(code).toBe(1);
    expect(JSON.parse(output)).toMatchObject({
      ok: false,
      findings: expect.arrayContaining([expect.objectContaining({ name: 'engine', serious: true })]),
    });
  });

  test('the doctor finds the kernel in the folder that Jupyter itself uses', async () => {
    const checkout = makeCheckout();
    vi.stubEnv('JUPYTER_DATA_DIR', undefined);
    vi.stubEnv('XDG_DATA_HOME', join(folder, 'data'));
    const kernel = async () => {
      const { findings } = JSON.parse((await checkout.cli('doctor', '--json')).output) as { findings: Finding[] };
      return findings.find(({ name }) => name === 'Jupyter kernel')?.value;
    };
    expect(await kernel()).toBe('not registered');
    expect(await checkout.cli('kernel', '--user')).toMatchObject({ code: 0 });
    expect(await kernel()).toContain(join(folder, 'data', 'jupyter', 'kernels'));
  });

  test('a cache folder that cannot be made does not stop the way', async () => {
    vi.stubEnv('EDGEVIT_CACHE', join(calls, 'cache'));
    expect(await makeCheckout().ensure()).toMatchObject({
      kind: 'js',
      description: expect.stringMatching(/EDGEVIT_CACHE/),
    });
  });

  test('what a killed setup leaves is swept up by the next one', async () => {
    stub('pip', 'echo half > "$out/x.whl"; exec sleep 5');
    const checkout = makeCheckout();
    const killed = checkout.start('setup');
    await vi.waitUntil(() => readdirSync(cache, { recursive: true }).join().includes('x.whl'), { timeout: 30_000 });
    killed.kill('SIGKILL');
    await once(killed, 'exit');
    expect(readdirSync(cache)).toHaveLength(1);
    stub('pip', 'echo "ERROR: boom"; exit 1');
    await checkout.ensure();
    expect(readdirSync(cache)).toEqual([]);
  });
});

// The real library is needed from here on; a stub takes the compiler's place and hands out the real addon.
const real = currentEngine()?.kind === 'tensorflow' ? cacheFolder() : undefined;

describe.skipIf(!real)('with TensorFlow in the cache', () => {
  const compiles = `case "$*" in *-shared*) cp ${ADDON} "$out";; *) : > "$out";; esac`;
  let checkout: ReturnType<typeof makeCheckout>;

  beforeEach(() => {
    symlinkSync(libraryFolder(real ?? ''), libraryFolder(cache));
    stub('g++', compiles);
    checkout = makeCheckout();
  });

  test('the addon is built once, put in its place, and put there again when it was changed', async () => {
    expect(await checkout.ensure()).toMatchObject({ kind: 'tensorflow' });
    const built = timesCalled('g++');
    expect(readFileSync(checkout.addon).equals(readFileSync(ADDON))).toBe(true);
    expect(await checkout.cli('setup')).toMatchObject({ code: 0 });
    writeFileSync(checkout.addon, 'something else');
    expect(await checkout.ensure()).toMatchObject({ kind: 'tensorflow' });
    expect(readFileSync(checkout.addon).equals(readFileSync(ADDON))).toBe(true);
    expect(timesCalled('g++')).toBe(built);
    expect(await checkout.cli('doctor')).toMatchObject({ code: 0 });
  });

  test('it is built anew for changed sources, and the earlier one kept when that fails', async () => {
    await checkout.ensure();
    const built = timesCalled('g++');
    appendFileSync(checkout.source, '// changed');
    expect(await checkout.ensure()).toMatchObject({ kind: 'tensorflow' });
    expect(timesCalled('g++')).toBe(2 * built);

    appendFileSync(checkout.source, '// again');
    stub('g++', 'echo "addon.cc:1:1: error: boom"; exit 1');
    expect(await checkout.ensure()).toMatchObject({
      kind: 'earlier addon',
      description: expect.stringMatching(/boom/),
    });
    expect(existsSync(checkout.addon)).toBe(true);
    expect(await checkout.cli('doctor')).toMatchObject({ code: 1 });

    stub('g++', compiles);
    await checkout.cli('setup');
    expect(await checkout.ensure()).toMatchObject({ kind: 'tensorflow' });
  });

  test.each([
    ['no compiler', () => rmSync(join(bin, 'g++')), /g\+\+/],
    ['a compiler that fails', () => stub('g++', 'echo "fatal error: boom"; exit 1'), /boom/],
    ['a full disk', () => stub('g++', 'echo "error writing: No space left on device"; exit 1'), /full/],
    ['an addon that does not load', () => stub('g++', 'echo garbage > "$out"'), /load/],
  ])('with %s the next way is taken', async (_failure, arrange, advice) => {
    arrange();
    expect(await checkout.ensure()).toMatchObject({ kind: 'js', description: expect.stringMatching(advice) });
    expect(existsSync(checkout.addon)).toBe(false);
    expect(readdirSync(cache).filter(name => /^(addon|\.scratch)-/.test(name))).toEqual([]);
  });

  test('the next way is tfjs-node’s own installer', async () => {
    rmSync(join(bin, 'g++'));
    const target = JSON.stringify(checkout.addon);
    checkout.installer(
      `const fs = require('fs'); fs.mkdirSync(require('path').dirname(${target}), { recursive: true }); fs.copyFileSync(${JSON.stringify(ADDON)}, ${target});`,
    );
    expect(await checkout.ensure()).toMatchObject({ kind: 'tfjs-node' });
    expect(await checkout.ensure()).toMatchObject({ kind: 'tfjs-node' });
    expect(timesCalled('installer')).toBe(1);
  });
});
