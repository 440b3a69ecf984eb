import {
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import * as yauzl from 'yauzl';
import { inScratch } from '../../util/folders';
import { limited, request } from '../../util/https';
import { locked } from '../../util/lock';
import type { Owner } from '../../util/owner';
import { execute } from '../../util/processes';
import { byteProgress } from '../../util/progress';
import { isIntact, isUntouched, record, sha256 } from './sums';
import { asObstacle, diskFull, ignoreReadOnly, Obstacle } from './system';

/** The version of TensorFlow that the lab runs on. */
export const TENSORFLOW = '2.19.1';

/** TensorFlow's Python package for one platform. We take its shared libraries and C++ headers, and none of its Python. */
export interface Wheel {
  package: string;
  /** pip's names of the platform. */
  platforms: string[];
  bytes: number;
  sha256: string;
  /** Member of the wheel → its size in bytes, by which a damaged copy in the cache is found out. */
  libraries: Record<string, number>;
}

/** Sizes and sums as PyPI publishes them. */
const WHEELS: Record<string, Wheel> = {
  'linux-x64': {
    package: 'tensorflow-cpu',
    platforms: ['manylinux2014_x86_64', 'manylinux_2_17_x86_64'],
    bytes: 251_795_484,
    sha256: '0b6d72bd09c267e7573757bd309f5b1e2cdb02577339991da751f3a1411e4dae',
    libraries: {
      'tensorflow/libtensorflow_cc.so.2': 686_113_096,
      'tensorflow/libtensorflow_framework.so.2': 61_430_936,
    },
  },
  // Run in an emulator alone (`npm run test:arm`).
  'linux-arm64': {
    package: 'tensorflow',
    platforms: ['manylinux2014_aarch64', 'manylinux_2_17_aarch64'],
    bytes: 252_660_426,
    sha256: '22deedc251837f2382d2b287c705705cb089bfaf79b2274b78c08740e02bf188',
    libraries: {
      'tensorflow/libtensorflow_cc.so.2': 860_647_201,
      'tensorflow/libtensorflow_framework.so.2': 53_143_896,
      'tensorflow.libs/libomp-f1025659.so.5': 1_295_273, // libtensorflow_cc looks for it next to itself, too
    },
  },
  // Could not be run here: its members were read from the wheel, the rest follows linux-x64.
  'darwin-arm64': {
    package: 'tensorflow',
    platforms: ['macosx_12_0_arm64'],
    bytes: 252_591_021,
    sha256: '8a274a1336051bef0e7e042fa5818a9d342e300d9c311c5d7933eb60e2269770',
    libraries: {
      'tensorflow/libtensorflow_cc.2.dylib': 646_577_920,
      'tensorflow/libtensorflow_framework.2.dylib': 38_419_516,
    },
  },
};

/** Bytes of the headers once unpacked, with room for rounding up to disk blocks. */
const HEADERS = 'tensorflow/include/';
const HEADER_BYTES = 200e6;

/** The wheel for this machine, where TensorFlow publishes one. */
export const machineWheel: Wheel | undefined = WHEELS[`${process.platform}-${process.arch}`];

/** The wheel for this machine. Throws an Obstacle where there is none or it would not load. */
export function requireWheel(): Wheel {
  const published = `TensorFlow ${TENSORFLOW} is published for Linux (x64 and arm64, glibc 2.17 or newer) and macOS (arm64)`;
  if (!machineWheel)
    throw new Obstacle(
      `${published}, not for ${process.platform} on ${process.arch}: use one of these, for example in a container.`,
    );
  if (process.platform === 'linux') {
    const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
    const glibc = header.glibcVersionRuntime;
    const [major = 0, minor = 0] = (glibc ?? '').split('.').map(Number);
    if (major < 2 || (major === 2 && minor < 17)) {
      throw new Obstacle(
        `${published}, and this Linux has ${glibc ? `glibc ${glibc}` : 'no glibc'}: use a distribution such as Debian or Ubuntu.`,
      );
    }
  }
  return machineWheel;
}

/** Where the library is, or would be: machines that share a home may have processors of two kinds. x64 was the first. */
export function libraryFolder(cache: string): string {
  return join(cache, `tensorflow-${TENSORFLOW}${process.arch === 'x64' ? '' : `-${process.arch}`}`);
}

const filesOf = (folder: string, wheel: Wheel): string[] =>
  Object.keys(wheel.libraries).map(member => join(folder, basename(member)));

/** Whether every library is there in its full size, and the headers. */
function isWhole(folder: string, wheel: Wheel): boolean {
  if (!existsSync(join(folder, 'include'))) return false;
  const size = (file: string): number | undefined => statSync(join(folder, file), { throwIfNoEntry: false })?.size;
  return Object.entries(wheel.libraries).every(([member, bytes]) => size(basename(member)) === bytes);
}

/** Whether the library is there as it was set up, by sizes and times. */
export function isComplete(folder: string, wheel: Wheel): boolean {
  return isWhole(folder, wheel) && filesOf(folder, wheel).every(isUntouched);
}

/** Whether the library is there as it was set up, by the sums of whole files; what has none yet, as of an earlier version of the lab, gets one. */
async function isSame(folder: string, wheel: Wheel): Promise<boolean> {
  if (!isWhole(folder, wheel)) return false;
  for (const file of filesOf(folder, wheel)) {
    if ((await isIntact(file)) === false) return false;
    if (!isUntouched(file)) await record(file).catch(ignoreReadOnly);
  }
  return true;
}

/** Makes sure that the cache holds the library, downloading it if not; `full` reads all of it even where nothing seems to have changed. Throws an Obstacle. */
export async function installLibrary(
  cache: string,
  wheel: Wheel,
  report: (line: string) => void,
  full = false,
): Promise<void> {
  const folder = libraryFolder(cache);
  const isThere = async () => (!full && isComplete(folder, wheel)) || (await isSame(folder, wheel));
  if (await isThere()) return;
  const wait = ({ pid, host }: Owner) =>
    report(`Process ${pid} on ${host} sets up TensorFlow's library already: waiting for it.`);
  await locked(folder, wait, async () => {
    if (!(await isThere())) await fetchLibrary(cache, wheel, report);
  });
}

async function fetchLibrary(cache: string, wheel: Wheel, report: (line: string) => void): Promise<void> {
  const folder = libraryFolder(cache);
  await inScratch(cache, async scratch => {
    const file = await download(wheel, scratch, report);
    await checkSum(file, wheel);
    const fresh = join(scratch, 'library');
    await unpack(file, wheel, fresh);
    rmSync(file);
    for (const library of filesOf(fresh, wheel)) await record(library);
    try {
      if (existsSync(folder)) renameSync(folder, join(scratch, 'damaged'));
      renameSync(fresh, folder);
    } catch (error) {
      if (!isComplete(folder, wheel)) throw error; // else another setup was faster
    }
  });
}

/**
 * How to call pip: the system's, the one that uv brings, or, given a folder for it, the one that comes inside Python. Undefined
 * where there is none.
 */
export async function findPip(folder?: string): Promise<string[] | undefined> {
  const works = async ([command = '', ...args]: string[]): Promise<boolean> =>
    (await execute(command, [...args, '--version'])).code === 0;
  for (const pip of [['python3', '-m', 'pip'], ['pip3'], ['pip'], ['uv', 'tool', 'run', 'pip']])
    if (await works(pip)) return pip;
  if (folder === undefined) return undefined;
  const environment = join(folder, 'python');
  await execute('python3', ['-m', 'venv', environment]); // by ensurepip, which changes nothing outside
  const pip = [join(environment, 'bin/python'), '-m', 'pip'];
  return (await works(pip)) ? pip : undefined;
}

/** By pip, because then the user's own mirrors, proxies and certificates apply; without pip from the index itself. */
async function download(wheel: Wheel, folder: string, report: (line: string) => void): Promise<string> {
  const cache = dirname(folder);
  const { bavail, bsize } = statfsSync(folder);
  const need = wheel.bytes + HEADER_BYTES + Object.values(wheel.libraries).reduce((sum, bytes) => sum + bytes, 0);
  if (bavail * bsize < need) throw diskFull(cache, need);
  const pip = await findPip(folder);
  if (!pip) return downloadDirectly(wheel, folder, report);
  const { file, obstacle, final } = await downloadByPip(pip, wheel, folder, report);
  if (file) return file;
  if (final) throw obstacle;
  report(obstacle!.message);
  return downloadDirectly(wheel, folder, report).catch(() => {
    throw obstacle; // what pip met says more: the direct way knows neither its mirrors nor its proxies
  });
}

/** Settings that are about environments into which packages are installed: ours is only downloaded and unpacked, its sum is checked here. */
const FOR_INSTALLING = ['PIP_REQUIRE_VIRTUALENV', 'PIP_CONSTRAINT', 'PIP_BUILD_CONSTRAINT', 'PIP_REQUIRE_HASHES'];

async function downloadByPip(
  pip: string[],
  wheel: Wheel,
  folder: string,
  report: (line: string) => void,
): Promise<{ file?: string; obstacle?: Obstacle; final?: boolean }> {
  const cache = dirname(folder);
  const [command = '', ...before] = pip;
  const args = [
    ...before,
    'download',
    '--no-deps',
    '--no-cache-dir',
    '--only-binary=:all:',
    '--python-version=3.11',
    '--progress-bar=off',
    ...wheel.platforms.map(name => `--platform=${name}`),
    `--dest=${folder}`,
    `${wheel.package}==${TENSORFLOW}`,
  ];
  report(`Downloading TensorFlow ${TENSORFLOW} with pip into ${cache}, once for all checkouts.`);

  const wheelIn = (): string | undefined =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).find(
      name => name.startsWith(wheel.package.replaceAll('-', '_')) && name.endsWith('.whl'),
    );
  const progress = byteProgress('download', wheel.bytes);
  const show = (): void => {
    const partial = wheelIn();
    progress.to((partial && statSync(join(folder, partial), { throwIfNoEntry: false })?.size) || 0);
  };
  const timer = setInterval(show, 250);
  // TMPDIR: pip writes the partial file there, where we can watch it, and a small /tmp does not matter.
  const env: NodeJS.ProcessEnv = { ...process.env, TMPDIR: folder };
  for (const name of FOR_INSTALLING) delete env[name];
  const { code, output } = await execute(command, args, { env });
  clearInterval(timer);
  const file = wheelIn();
  if (code === 0 && file) show();
  progress.end();
  return code === 0 && file ? { file: join(folder, file) } : pipFailure(pip, wheel, cache, output);
}

/** As pip reads a switch from the environment. */
const isTrue = /^(1|true|yes|on|y|t)$/i;

/** The proxy that a user set, without its password; undefined where none is set. */
function proxySet(): string | undefined {
  const name = ['PIP_PROXY', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'].find(name => process.env[name]);
  return name && `${name}=${process.env[name]!.replace(/\/\/[^/@]*@/, '//')}`;
}

/** What pip's last words mean, and whether that is final: another way would go against what the user or the system says. */
async function pipFailure(
  [command = '', ...pip]: string[],
  wheel: Wheel,
  cache: string,
  output: string,
): Promise<{ obstacle: Obstacle; final: boolean }> {
  if (/no space left on device|disk quota exceeded/i.test(output)) return { obstacle: diskFull(cache), final: true };
  const what = `${wheel.package} ${TENSORFLOW}`;
  const final = (sentence: string) => ({
    obstacle: new Obstacle(`${sentence}, then run \`npm run setup\`.`),
    final: true,
  });
  if (/No matching distribution/.test(output)) {
    const asked = isTrue.test(process.env.PIP_NO_INDEX ?? '') && `PIP_NO_INDEX=${process.env.PIP_NO_INDEX}`;
    const settings = (await execute(command, [...pip, 'config', 'list'])).output;
    if (asked || /\.no-index\s*=\s*'?(1|true|yes|on)\b/i.test(settings))
      return final(
        `pip may not use an index (${asked || 'no-index in its settings'}) and finds no ${what} elsewhere: lift that, or put the wheel into a folder that PIP_FIND_LINKS names`,
      );
  }
  if (/could not find an activated virtualenv/i.test(output))
    return final(
      'pip demands a virtual environment (require-virtualenv in its settings): activate one, or lift that by `pip config unset global.require-virtualenv`',
    );
  if (/\(constraint\)/.test(output))
    return final(`pip's constraints (constraint in its settings) rule out ${what}: lift them`);
  if (/ProxyError|Cannot connect to proxy|Tunnel connection failed/.test(output))
    return final(
      `pip cannot reach its package index through the proxy (${proxySet() ?? 'of its settings'}): mend or unset it`,
    );
  if (
    /NewConnectionError|ConnectTimeout|ReadTimeout|SSLError|Max retries exceeded|Connection (aborted|broken|reset)/.test(
      output,
    )
  ) {
    return final(
      `pip cannot reach its package index to download ${what}: check the network${proxySet() ? ` and the proxy (${proxySet()})` : ' and proxy'}, or name a mirror by PIP_INDEX_URL`,
    );
  }
  if (/No matching distribution/.test(output))
    return final(`pip's package index does not offer ${what}: name one that mirrors PyPI in full by PIP_INDEX_URL`);
  const reason =
    output
      .split('\n')
      .filter(line => /error/i.test(line))
      .pop()
      ?.trim() ?? 'no reason given';
  return {
    obstacle: new Obstacle(`pip failed to download ${what} (${reason}): mend that, then run \`npm run setup\`.`),
    final: false,
  };
}

/** An index's page of one package is smaller than this. */
const MOST_PAGE_BYTES = 64e6;

/** From the package index over HTTPS, found there by the pinned sum. */
async function downloadDirectly(wheel: Wheel, folder: string, report: (line: string) => void): Promise<string> {
  const { PIP_INDEX_URL, UV_DEFAULT_INDEX, UV_INDEX_URL } = process.env;
  const index = (PIP_INDEX_URL || UV_DEFAULT_INDEX || UV_INDEX_URL || 'https://pypi.org/simple').replace(/\/*$/, '/');
  const file = join(folder, `${wheel.package}.whl`);
  const host = URL.canParse(index) ? new URL(index).host : index;
  report(`Downloading TensorFlow ${TENSORFLOW} from ${host} into ${dirname(folder)}, once for all checkouts.`);
  const get = async (address: string, headers?: Record<string, string>) => {
    const { statusCode, body } = await request(address, { headers });
    if (statusCode === 200) return body;
    await body.dump();
    throw new Error(`the server answers ${statusCode}`);
  };
  const progress = byteProgress('download', wheel.bytes);
  try {
    const page = new URL(`${wheel.package}/`, index).href;
    const accept = 'application/vnd.pypi.simple.v1+json, text/html;q=0.5';
    const chunks: Buffer[] = [];
    for await (const chunk of limited(await get(page, { accept }), MOST_PAGE_BYTES)) chunks.push(chunk);
    const link = linkTo(Buffer.concat(chunks).toString(), wheel.sha256);
    if (!link) throw new Error('it does not offer the file');
    let done = 0;
    const show = async function* (body: AsyncIterable<Buffer>) {
      for await (const chunk of body) {
        progress.to((done += chunk.length));
        yield chunk;
      }
    };
    const body = await get(new URL(link, page).href);
    await pipeline(limited(body, wheel.bytes), show, createWriteStream(file));
    progress.end();
    return file;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') throw asObstacle(error);
    throw new Obstacle(
      `pip, which downloads TensorFlow ${TENSORFLOW}, is not here, and ${host} cannot be reached without it (${message || code}): install pip (Debian, Ubuntu: \`apt install python3-pip\`; macOS: \`brew install python\`) or uv${proxySet() ? ', which know proxies' : ''}, and run \`npm run setup\`.`,
    );
  }
}

/** The address of the file with a sum in an index's page, by the simple repository API: JSON, or HTML with `#sha256=`. */
function linkTo(page: string, sum: string): string | undefined {
  if (page.trimStart().startsWith('{')) {
    const { files = [] } = JSON.parse(page) as { files?: { url: string; hashes?: { sha256?: string } }[] };
    return files.find(({ hashes }) => hashes?.sha256 === sum)?.url;
  }
  return new RegExp(`href\\s*=\\s*["']([^"'#]+)#sha256=${sum}["']`).exec(page)?.[1]?.replaceAll('&amp;', '&');
}

async function checkSum(file: string, wheel: Wheel): Promise<void> {
  const sum = await sha256(file);
  if (sum === wheel.sha256) return;
  throw new Obstacle(
    `The downloaded ${basename(file)} is damaged or not the published one (sha256 ${sum}, expected ${wheel.sha256}): run \`npm run setup\` again, or use another package index.`,
  );
}

/** Libraries flat into `folder`, headers under `folder/include`. */
async function unpack(file: string, wheel: Wheel, folder: string): Promise<void> {
  const zip = await yauzl.openPromise(file);
  const progress = byteProgress('unpack', wheel.bytes);
  let done = 0;
  for await (const entry of zip.eachEntry()) {
    const name = entry.fileName;
    const isLibrary = name in wheel.libraries;
    if (isLibrary || (name.startsWith(HEADERS) && !name.endsWith('/'))) {
      const target = join(folder, isLibrary ? basename(name) : join('include', name.slice(HEADERS.length)));
      mkdirSync(dirname(target), { recursive: true });
      const packed = await zip.openReadStreamPromise(entry);
      // A library is flushed, so that after a power cut it cannot have its full size and no contents.
      await pipeline(packed, createWriteStream(target, { flush: isLibrary }));
    }
    done += entry.compressedSize;
    progress.to(done);
  }
  progress.to(wheel.bytes);
  progress.end();
}
