import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir, totalmem } from 'node:os';
import { basename, join } from 'node:path';
import JSZip from 'jszip';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { builtAddon, compilesAtOnce } from '../lib/engine/build/addon';
import type { Finding } from '../lib/engine/build/doctor';
import { currentEngine, type Engine } from '../lib/engine/build/install';
import { chooseSet, featuresProbe, machineSets, processorFeatures, supportedSets } from '../lib/engine/build/isa';
import { packageFolder } from '../lib/engine/build/packages';
import { cacheFolder } from '../lib/engine/build/system';
import { installLibrary, isComplete, libraryFolder, type Wheel } from '../lib/engine/build/wheel';
import { isScratch } from '../lib/util/folders';
import { isAllowed } from '../lib/util/https';
import { thisProcess } from '../lib/util/owner';
import { execute, type Outcome } from '../lib/util/processes';

const ROOT = join(__dirname, '..');

vi.setConfig({ testTimeout: 600_000 }); // each starts a dozen processes, which a busy machine takes long for

const PIP_SETTINGS = [
  'PIP_NO_INDEX',
  'PIP_FIND_LINKS',
  'PIP_PROXY',
  'HTTPS_PROXY',
  'https_proxy',
  'ALL_PROXY',
  'all_proxy',
];

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
  vi.stubEnv('EDGEVIT_ISA', undefined);
  vi.stubEnv('CXX', undefined);
  vi.stubEnv('PIP_INDEX_URL', 'https://127.0.0.1:9/simple'); // nothing is ever asked of the real one
  for (const name of PIP_SETTINGS) vi.stubEnv(name, undefined);
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

test('only HTTPS is downloaded from, and nothing leads from there to the servers of this machine', () => {
  const [remote, plain, local] = ['https://a.org/x', 'http://a.org/x', 'http://127.0.0.1:8000/x'].map(
    address => new URL(address),
  );
  expect([remote, plain, local].map(url => isAllowed(url))).toEqual([true, false, true]);
  expect([remote, plain, local].map(url => isAllowed(url, remote))).toEqual([true, false, false]);
  expect([remote, plain, local].map(url => isAllowed(url, local))).toEqual([true, false, true]);
});

describe('the library', () => {
  const LIBRARY = 'tensorflow/libtensorflow_cc.so.2';
  const MEMBERS = {
    [LIBRARY]: 'library',
    'tensorflow/include/tensorflow/c/c_api.h': 'header',
    'tensorflow/python/module.py': 'not for us',
  };
  let wheel: Wheel;
  const install = (): Promise<void> => installLibrary(cache, wheel, () => {}, true);

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
    stub('pip', `cp ${folder}/published.whl "$out/tensorflow-2.whl"`);
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
      'libtensorflow_cc.so.2.sum',
    ]);
    expect(readdirSync(cache)).toHaveLength(1);
  });

  test.each([
    ['cut short', (file: string) => truncateSync(file, 3)],
    ['changed in place', (file: string) => writeFileSync(file, 'LIBRARY')],
    [
      'changed in place by a copy with an older date',
      (file: string) => {
        writeFileSync(file, 'LIBRARY');
        utimesSync(file, 1e9, 1e9);
      },
    ],
  ])('is replaced when %s', async (_damage, damage) => {
    await install();
    const file = join(libraryFolder(cache), 'libtensorflow_cc.so.2');
    damage(file);
    await install();
    expect(readFileSync(file, 'utf8')).toBe('library');
    expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    expect(readdirSync(cache)).toHaveLength(1);
    expect(timesCalled('pip')).toBe(2);
  });

  test('is not complete at start when its date has changed, and found to be the same by setup', async () => {
    await install();
    utimesSync(join(libraryFolder(cache), 'libtensorflow_cc.so.2'), 1e9, 1e9);
    expect(isComplete(libraryFolder(cache), wheel)).toBe(false);
    await install();
    expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    expect(timesCalled('pip')).toBe(1);
  });

  test('lies beside the one for another kind of processor', async () => {
    await install();
    const { arch } = process;
    Object.defineProperty(process, 'arch', { value: arch === 'arm64' ? 'x64' : 'arm64' });
    try {
      expect(isComplete(libraryFolder(cache), wheel)).toBe(false);
      await install();
      expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    } finally {
      Object.defineProperty(process, 'arch', { value: arch });
    }
    expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    expect(timesCalled('pip')).toBe(2);
    expect(readdirSync(cache)).toHaveLength(2);
  });

  test('may be installed by several at once', async () => {
    await Promise.all([install(), install(), install()]);
    expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    expect(readdirSync(cache)).toHaveLength(1);
  });

  test.each([
    [
      'a tampered wheel',
      'cp "$out/../../published.whl" "$out/tensorflow-2.whl"; echo more >> "$out/tensorflow-2.whl"',
      /sha256/,
    ],
    [
      'a full disk',
      'echo half > "$out/tensorflow-2.whl"; echo "[Errno 28] No space left on device"; exit 2',
      /EDGEVIT_CACHE/,
    ],
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

  // What pip itself prints (23 to 26), shortened.
  test.each([
    [
      'a proxy that is dead',
      { HTTPS_PROXY: 'http://me:secret@127.0.0.1:9' },
      "WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.', NewConnectionError(...))'\nERROR: No matching distribution found for tensorflow",
      /HTTPS_PROXY=http:\/\/127\.0\.0\.1:9/,
    ],
    ['PIP_NO_INDEX', { PIP_NO_INDEX: '1' }, 'ERROR: No matching distribution found for tensorflow', /PIP_NO_INDEX/],
    ['no-index in its settings', {}, "ERROR: No matching distribution found\nglobal.no-index='true'", /no-index/],
    ['require-virtualenv', {}, 'ERROR: Could not find an activated virtualenv (required).', /require-virtualenv/],
    [
      'a constraint',
      {},
      'ERROR: Cannot install tensorflow==2.19.1 because these package versions have conflicting dependencies.\n    The user requested (constraint) tensorflow==2.15',
      /constraint/,
    ],
  ])('pip’s failure by %s is named', async (_cause, env, output, advice) => {
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    writeFileSync(join(folder, 'said'), output);
    stub('pip', `cat ${folder}/said; exit 1`);
    const failed = await install().catch((error: Error) => error);
    expect(failed).toEqual(obstacle(advice));
    expect((failed as Error).message).not.toContain('secret');
  });

  test('settings that are about installing do not reach pip', async () => {
    for (const name of ['PIP_CONSTRAINT', 'PIP_REQUIRE_VIRTUALENV', 'PIP_REQUIRE_HASHES']) vi.stubEnv(name, '1');
    stub(
      'pip',
      `[ -z "$PIP_CONSTRAINT$PIP_REQUIRE_VIRTUALENV$PIP_REQUIRE_HASHES" ] && cp ${folder}/published.whl "$out/tensorflow-2.whl"`,
    );
    await install();
    expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
  });

  describe('without pip', () => {
    /** A package index of the simple API. */
    let index: Server;
    let page: (sum: string) => string;
    let wheelAnswer: (response: ServerResponse) => void;

    beforeEach(async () => {
      rmSync(join(bin, 'pip'));
      page = sum => JSON.stringify({ files: [{ url: '../files/x.whl', hashes: { sha256: sum } }] });
      wheelAnswer = response => response.end(readFileSync(join(folder, 'published.whl')));
      index = createServer((request, response) => {
        if (request.url === '/simple/tensorflow/') response.end(page(wheel.sha256));
        else if (request.url === '/simple/files/x.whl') wheelAnswer(response);
        else response.writeHead(404).end();
      });
      index.listen(0, '127.0.0.1');
      await once(index, 'listening');
      vi.stubEnv('PIP_INDEX_URL', `http://127.0.0.1:${(index.address() as AddressInfo).port}/simple`);
    });
    afterEach(() => index.close());

    test('uv’s pip is asked', async () => {
      writeFileSync(
        join(bin, 'uv'),
        `#!/bin/sh\n[ "$*" = "tool run pip --version" ] && exit 0\nfor a; do case "$a" in --dest=*) /bin/cp ${folder}/published.whl "\${a#--dest=}/tensorflow-2.whl";; esac; done\n`,
        { mode: 0o755 },
      );
      vi.stubEnv('PIP_INDEX_URL', 'https://127.0.0.1:9/simple');
      await install();
      expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    });

    test.each([
      ['JSON', undefined],
      [
        'HTML',
        (sum: string) => `<a href="../files/old.whl#sha256=00">x</a><a href="../files/x.whl#sha256=${sum}">x</a>`,
      ],
    ])('the wheel comes from the index itself, by its page in %s', async (_format, html) => {
      if (html) page = html;
      await install();
      expect(isComplete(libraryFolder(cache), wheel)).toBe(true);
    });

    test.each<[string, (response: ServerResponse) => void, RegExp]>([
      [
        'leads away from HTTPS',
        response => response.writeHead(302, { location: 'http://example.org/x.whl' }).end(),
        /https/,
      ],
      ['is longer than published', response => response.end(Buffer.alloc(1e5)), /expected/],
      ['is another', response => response.end(Buffer.alloc(wheel.bytes)), /sha256/],
      ['is not there', response => response.writeHead(404).end(), /404/],
    ])('a file that %s is refused, and nothing is left', async (_fault, answer, advice) => {
      wheelAnswer = answer;
      await expect(install()).rejects.toEqual(obstacle(advice));
      expect(readdirSync(cache)).toEqual([]);
    });

    test('and without the index pip is asked for', async () => {
      vi.stubEnv('PIP_INDEX_URL', 'https://127.0.0.1:9/simple');
      await expect(install()).rejects.toEqual(obstacle(/pip/));
    });
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

/** Where each test has its checkout: at one place, so that tsx compiles its files once. */
const place = mkdtempSync(join(tmpdir(), 'edgevit-checkout-'));
afterAll(() => rmSync(place, { recursive: true, force: true }));

/** A new copy of what sets the engine up, so that this checkout stays as it is. */
function makeCheckout() {
  const root = join(place, 'checkout');
  rmSync(root, { recursive: true, force: true });
  const modules = join(root, 'node_modules');
  const tfjsNode = '@tensorflow/tfjs-node';
  const copy = (name: string): void => cpSync(join(ROOT, name), join(root, name), { recursive: true });
  ['lib', 'package.json'].forEach(copy);
  [`node_modules/${tfjsNode}/package.json`, `node_modules/${tfjsNode}/binding`].forEach(copy);
  for (const name of [
    '@tensorflow/tfjs',
    'commander',
    'env-paths',
    'execa',
    'fastest-levenshtein',
    'node-api-headers',
    'tsx',
    'yauzl',
  ])
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
  return {
    root,
    modules,
    source: join(root, 'lib/engine/native/addon.cc'),
    cli: (...args: string[]): Promise<Outcome> => execute(...command('lib/cli/main.ts', args)),
    start: (...args: string[]) => spawn(...command('lib/cli/main.ts', args)),
    async ensure(...args: string[]): Promise<Engine> {
      const { output } = await execute(...command('ensure.ts', args));
      return JSON.parse(output.trim().split('\n').pop() ?? '') as Engine;
    },
  };
}

describe('without TensorFlow', () => {
  test('the way ends at pure JavaScript, announced, and only setup tries again', async () => {
    stub('pip', 'echo "ERROR: boom"; exit 1');
    const checkout = makeCheckout();
    expect(await checkout.ensure()).toMatchObject({ kind: 'js', description: expect.stringMatching(/boom/) });
    expect(await checkout.ensure()).toMatchObject({ kind: 'js', description: expect.stringMatching(/boom/) });
    expect(timesCalled('pip')).toBe(1);
    expect(await checkout.cli('setup')).toMatchObject({ code: 0, output: expect.stringMatching(/boom[\s\S]*SLOWER/) });
    expect(timesCalled('pip')).toBe(2);
  });

  test.runIf(process.platform === 'linux')('as on musl, setup says so in one sentence and ends well', async () => {
    const checkout = makeCheckout();
    const main = join(checkout.root, 'lib/cli/main.ts');
    const withoutGlibc = 'process.report.getReport = () => ({ header: {} }) as never;';
    writeFileSync(main, `${withoutGlibc}\n${readFileSync(main, 'utf8')}`);
    const { code, output } = await checkout.cli('setup');
    expect({ code, output }).toMatchObject({ code: 0, output: expect.stringMatching(/no glibc[\s\S]*SLOWER/) });
    expect(output).not.toMatch(/^ {4}at /m);
  });

  // Docker's `USER node`: what root set up belongs to root, and another user runs it.
  test.skipIf(process.getuid?.() !== 0)('another user runs what root set up, who owns all of it', async () => {
    const checkout = makeCheckout();
    const [home, uid] = [join(folder, 'home'), 65_534];
    mkdirSync(home);
    chownSync(home, uid, uid);
    for (const each of [folder, place]) chmodSync(each, 0o755);
    execFileSync('/bin/chmod', ['-R', 'a+rX,go-w', checkout.root]);
    const run = (cache: string) =>
      execute(process.execPath, ['--import', 'tsx', 'lib/cli/main.ts', 'setup'], {
        cwd: checkout.root,
        env: {
          PATH: bin,
          HOME: home,
          TMPDIR: home,
          PIP_INDEX_URL: process.env.PIP_INDEX_URL,
          ...(cache && { EDGEVIT_CACHE: cache }),
        },
        uid,
        gid: uid,
      });
    for (const cache of ['', join(folder, 'cache')]) {
      const { code, output } = await run(cache);
      expect({ code, output }).toMatchObject({ code: 0, output: expect.stringMatching(/engine: pure JavaScript/) });
      expect(output).not.toMatch(/^ {4}at /m);
    }
    expect(readdirSync(join(home, '.cache/edgevit-lab'))).not.toEqual([]);
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
    stub('pip', 'echo half > "$out/x.whl"; exec sleep 30');
    const checkout = makeCheckout();
    const killed = checkout.start('setup');
    await vi.waitUntil(() => readdirSync(cache, { recursive: true }).join().includes('x.whl'), { timeout: 300_000 });
    killed.kill('SIGKILL');
    await once(killed, 'exit');
    const left = (): string[] => readdirSync(cache).filter(name => isScratch(name) || name.includes('.lock-'));
    expect(left()).not.toEqual([]);
    stub('pip', 'echo "ERROR: boom"; exit 1');
    await checkout.ensure();
    expect(left()).toEqual([]);
  });
});

// The real library is needed from here on; a stub takes the compiler's place and hands out the real addon.
const real = currentEngine()?.kind === 'tensorflow' ? cacheFolder() : undefined;
const ADDON = (real && currentEngine()?.addon) ?? '';

describe.skipIf(!real)('with TensorFlow in the cache', () => {
  const compiles = `case "$*" in *features.cc*) cp ${real && featuresProbe(real)} "$out";; *-shared*) cp ${ADDON} "$out";; *) : > "$out";; esac`;
  const features = processorFeatures(real ?? '') ?? new Set<string>();
  const supported = supportedSets(features);
  const [widest] = supported.slice(-1);
  const addons = (): string[] => readdirSync(cache).filter(name => /^addon-.*\.node$/.test(name));
  let checkout: ReturnType<typeof makeCheckout>;

  beforeEach(() => {
    symlinkSync(libraryFolder(real ?? ''), libraryFolder(cache));
    stub('g++', compiles);
    checkout = makeCheckout();
  });

  test('the addon is built once, for this processor, and again when its file was changed; nothing is written outside the cache', async () => {
    const before = readdirSync(checkout.root, { recursive: true });
    const { addon = '', ...engine } = await checkout.ensure();
    expect(engine).toMatchObject({ kind: 'tensorflow', description: expect.stringContaining(widest?.label ?? '') });
    expect(addons()).toEqual([expect.stringMatching(new RegExp(`-${widest?.isa}\\.node$`))]);
    const built = timesCalled('g++');
    expect(await checkout.cli('setup')).toMatchObject({ code: 0 });
    expect(timesCalled('g++')).toBe(built);

    writeFileSync(addon, 'something else');
    expect(await checkout.ensure()).toMatchObject({ kind: 'tensorflow' });
    expect(readFileSync(addon).equals(readFileSync(ADDON))).toBe(true);
    expect(timesCalled('g++')).toBeGreaterThan(built);
    expect(readdirSync(checkout.root, { recursive: true })).toEqual(before);
  });

  test('of two that start together one builds, and both have it', async () => {
    await checkout.ensure(); // the probe of features is built without a lock
    const [name = ''] = addons();
    rmSync(join(cache, name));
    symlinkSync(JSON.stringify({ ...thisProcess(), pid: 2 ** 22 + 1 }), join(cache, `${name}.lock-dead`));
    const built = timesCalled('g++');
    const [first, second] = await Promise.all([checkout.ensure(), checkout.ensure()]);
    expect(first).toMatchObject({ kind: 'tensorflow' });
    expect(second).toEqual(first);
    expect(timesCalled('g++')).toBe(2 * built - 1);
  });

  test('building one removes what nobody used for 30 days, but not what a checkout still names', async () => {
    const day = 86_400;
    const used = (name: string, days: number, text = ''): string => {
      const file = join(cache, name);
      writeFileSync(file, text);
      utimesSync(file, Date.now() / 1000 - days * day, Date.now() / 1000 - days * day);
      return name;
    };
    const gone = [used('addon-1-avx2.node', 31), used('checkout-1-avx2.json', 31, '{"earlier":"addon-2-avx2.node"}')];
    gone.push(used('addon-2-avx2.node', 40), used('addon-2-avx2.node.sum', 35));
    const stays = [used('addon-3-avx2.node', 29), used('checkout-2-avx2.json', 29, '{"earlier":"addon-4-avx2.node"}')];
    stays.push(used('addon-4-avx2.node', 90), used('addon-5-avx2.node', 90), used('addon-5-avx2.node.sum', 1));
    const { addon = '' } = await checkout.ensure();
    const left = readdirSync(cache);
    expect(left).toEqual(expect.arrayContaining([...stays, basename(addon)]));
    expect(left.filter(name => gone.includes(name))).toEqual([]);
    // A use renews the dates.
    const note = left.find(name => name.startsWith('checkout-') && !stays.includes(name))!;
    const dated = [note, `${basename(addon)}.sum`].map(name => join(cache, name));
    for (const file of dated) utimesSync(file, 1e9, 1e9);
    await checkout.ensure();
    for (const file of dated) expect(Date.now() - statSync(file).mtimeMs).toBeLessThan(day * 1000);
  });

  test('a change of one byte is found by the doctor, and mended by setup', async () => {
    const { addon = '' } = await checkout.ensure();
    const { atimeMs, mtimeMs } = statSync(addon);
    const bytes = readFileSync(addon);
    bytes[bytes.length - 1]! ^= 1; // within the table of sections, which nobody reads
    writeFileSync(addon, bytes);
    utimesSync(addon, atimeMs / 1000, mtimeMs / 1000); // a Date is rounded, perhaps into the next second
    expect(await checkout.cli('doctor')).toMatchObject({
      code: 1,
      output: expect.stringMatching(/not what was set up/),
    });
    expect(await checkout.cli('setup')).toMatchObject({ code: 0 });
    expect(await checkout.cli('doctor')).toMatchObject({ code: 0 });
    expect(readFileSync(addon).equals(readFileSync(ADDON))).toBe(true);
  });

  test('EDGEVIT_ISA forces a narrower addon, and one that the processor lacks is refused in a sentence', async () => {
    for (const { isa, label } of supported) {
      vi.stubEnv('EDGEVIT_ISA', isa);
      expect(await checkout.ensure()).toMatchObject({ description: expect.stringContaining(`${label})`) });
    }
    expect(addons()).toHaveLength(supported.length);
    for (const wrong of ['mmx', ...machineSets.filter(set => !supported.includes(set)).map(({ isa }) => isa)]) {
      vi.stubEnv('EDGEVIT_ISA', wrong);
      const { code, output } = await checkout.cli('setup');
      expect(code).toBe(2);
      expect(output.trim()).toMatch(new RegExp(`^EDGEVIT_ISA is '${wrong}', .*'portable'.*$`));
    }
  });

  test('an addon for what this processor lacks is not run, and named by its cause', async () => {
    const { addon = '' } = await checkout.ensure();
    const text = readFileSync(addon, 'latin1');
    const marked = text.replace(`EDGEVIT_ISA=${widest?.isa};`, 'EDGEVIT_ISA=avx512;');
    // On a processor that has AVX-512 the probe of features stands for one that lacks it.
    vi.resetModules();
    vi.doMock('../lib/engine/build/isa', async original => ({
      ...(await original<typeof import('../lib/engine/build/isa')>()),
      processorFeatures: () => new Set(['avx', 'avx2', 'fma']),
    }));
    const { probe } = await import('../lib/engine/build/addon');
    const foreign = join(cache, 'foreign.node');
    writeFileSync(foreign, marked, 'latin1');
    const { obstacle: found } = await probe(cache, foreign);
    vi.doUnmock('../lib/engine/build/isa');
    vi.resetModules();
    expect(found?.message).toMatch(/built for AVX-512, and this processor has AVX2/);
    expect(found?.message).not.toMatch(/lacks AVX/);
  });

  test('it is built anew for changed sources, and the earlier one kept when that fails', async () => {
    await checkout.ensure();
    const built = timesCalled('g++');
    appendFileSync(checkout.source, '// changed');
    expect(await checkout.ensure()).toMatchObject({ kind: 'tensorflow' });
    expect(timesCalled('g++')).toBe(2 * built - 1); // the probe of features has not changed

    appendFileSync(checkout.source, '// again');
    stub('g++', 'echo "addon.cc:1:1: error: boom"; exit 1');
    expect(await checkout.ensure()).toMatchObject({
      kind: 'earlier addon',
      description: expect.stringMatching(/boom/),
      addon: expect.stringContaining(cache),
    });
    expect(await checkout.cli('doctor')).toMatchObject({ code: 1 });

    stub('g++', compiles);
    await checkout.cli('setup');
    expect(await checkout.ensure()).toMatchObject({ kind: 'tensorflow' });
  });

  test.skipIf(supported.length < 2)(
    'without a compiler the addon for fewer instructions is taken, which says so',
    async () => {
      const narrower = supported.at(-2)!;
      vi.stubEnv('EDGEVIT_ISA', narrower.isa);
      await checkout.ensure();
      vi.stubEnv('EDGEVIT_ISA', undefined);
      rmSync(join(bin, 'g++'));
      expect(await checkout.ensure()).toMatchObject({
        kind: 'earlier addon',
        description: expect.stringContaining(`${narrower.label}, because`),
      });
    },
  );

  test('a cache that cannot be written serves as it is', async () => {
    await checkout.ensure();
    rmSync(join(bin, 'g++'));
    const before = readdirSync(cache).sort();
    const { addon } = await checkout.ensure();
    expect(addon).toContain(cache);
    expect(readdirSync(cache).sort()).toEqual(before);
  });

  test.each([
    ['no compiler', () => rmSync(join(bin, 'g++')), /g\+\+/],
    ['a compiler that fails', () => stub('g++', 'echo "fatal error: boom"; exit 1'), /boom/],
    ['a full disk', () => stub('g++', 'echo "error writing: No space left on device"; exit 1'), /full/],
    ['an addon that does not load', () => stub('g++', compiles.replace(`cp ${ADDON}`, 'echo garbage >')), /load/],
  ])('with %s the next way is taken', async (_failure, arrange, advice) => {
    arrange();
    expect(await checkout.ensure()).toMatchObject({ kind: 'js', description: expect.stringMatching(advice) });
    expect(readdirSync(cache).filter(name => /^(addon|\.scratch)-/.test(name))).toEqual([]);
  });

  test.each([
    [2e9, 1],
    [8e9, 2],
  ])('with %d bytes of memory %d files are compiled at once', async (memory, atOnce) => {
    vi.spyOn(process, 'constrainedMemory').mockReturnValue(memory);
    expect(compilesAtOnce()).toBe(totalmem() < 3e9 ? 1 : atOnce);
  });
});

describe('the instruction set', () => {
  const HASWELL = ['avx', 'avx2', 'fma'];
  const SKYLAKE_X = [...HASWELL, 'avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'];

  test.skipIf(process.arch !== 'x64').each([
    ['Sandy Bridge', ['avx'], 'portable'],
    ['Haswell and Zen 1 to 3', HASWELL, 'avx2'],
    ['Knights Landing', [...HASWELL, 'avx512f', 'avx512cd'], 'avx2'],
    ['Skylake-X', SKYLAKE_X, 'avx512'],
    ['one without AVX', [], undefined],
  ])('of %s', (_name, features, isa) => {
    expect(chooseSet(new Set(features))?.isa).toBe(isa);
  });

  test('names the file, which no flag of the compiler makes depend on the machine that builds it', () => {
    expect(new Set(machineSets.map(set => builtAddon(cache, set))).size).toBe(machineSets.length);
    for (const set of machineSets) {
      expect(builtAddon(cache, set)).toMatch(new RegExp(`-${set.isa}\\.node$`));
      expect(set.flags.join()).not.toContain('native');
    }
    expect(builtAddon(cache, machineSets[0]!).startsWith(packageFolder('@tensorflow/tfjs-node'))).toBe(false);
  });
});
