import { createHash } from 'node:crypto';
import {
  createReadStream,
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
import { execute } from '../../util/processes';
import { byteProgress } from '../../util/progress';
import { diskFull, Obstacle } from './system';

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
  // Neither of the two below could be run here: their members were read from the wheels, the rest follows linux-x64.
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

/** Where the library is, or would be. */
export function libraryFolder(cache: string): string {
  return join(cache, `tensorflow-${TENSORFLOW}`);
}

/** Whether every library is there in its full size, and the headers. */
export function isComplete(folder: string, wheel: Wheel): boolean {
  if (!existsSync(join(folder, 'include'))) return false;
  const size = (file: string): number | undefined => statSync(join(folder, file), { throwIfNoEntry: false })?.size;
  return Object.entries(wheel.libraries).every(([member, bytes]) => size(basename(member)) === bytes);
}

/** Makes sure that the cache holds the library, downloading it if not. Throws an Obstacle. */
export async function installLibrary(cache: string, wheel: Wheel, report: (line: string) => void): Promise<void> {
  const folder = libraryFolder(cache);
  if (isComplete(folder, wheel)) return;
  await inScratch(cache, async scratch => {
    const file = await download(wheel, scratch, report);
    await checkSum(file, wheel);
    const fresh = join(scratch, 'library');
    await unpack(file, wheel, fresh);
    rmSync(file);
    try {
      if (existsSync(folder)) renameSync(folder, join(scratch, 'damaged'));
      renameSync(fresh, folder);
    } catch (error) {
      if (!isComplete(folder, wheel)) throw error; // else another setup was faster
    }
  });
}

/** How to call pip, or an Obstacle. */
export async function findPip(): Promise<string[]> {
  for (const pip of [['python3', '-m', 'pip'], ['pip3'], ['pip']]) {
    if ((await execute(pip[0], [...pip.slice(1), '--version'])).code === 0) return pip;
  }
  throw new Obstacle(
    `pip, which downloads TensorFlow ${TENSORFLOW}, is not here: install it (Debian, Ubuntu: \`apt install python3-pip\`; macOS: \`brew install python\`) and run \`npm run setup\`.`,
  );
}

/** By pip, because then the user's own mirrors, proxies and certificates apply. */
async function download(wheel: Wheel, folder: string, report: (line: string) => void): Promise<string> {
  const cache = dirname(folder);
  const { bavail, bsize } = statfsSync(folder);
  const need = wheel.bytes + HEADER_BYTES + Object.values(wheel.libraries).reduce((sum, bytes) => sum + bytes, 0);
  if (bavail * bsize < need) throw diskFull(cache, need);

  const [command, ...args] = await findPip();
  args.push(
    'download',
    '--no-deps',
    '--no-cache-dir',
    '--only-binary=:all:',
    '--python-version=3.11',
    '--progress-bar=off',
  );
  args.push(
    ...wheel.platforms.map(name => `--platform=${name}`),
    `--dest=${folder}`,
    `${wheel.package}==${TENSORFLOW}`,
  );
  report(`Downloading TensorFlow ${TENSORFLOW} with pip into ${cache}, once for all checkouts.`);

  const wheelIn = (): string | undefined =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).find(name => name.endsWith('.whl'));
  const progress = byteProgress('download', wheel.bytes);
  const show = (): void => {
    const partial = wheelIn();
    progress.to((partial && statSync(join(folder, partial), { throwIfNoEntry: false })?.size) || 0);
  };
  const timer = setInterval(show, 250);
  // TMPDIR: pip writes the partial file there, where we can watch it, and a small /tmp does not matter.
  const { code, output } = await execute(command, args, { env: { ...process.env, TMPDIR: folder } });
  clearInterval(timer);
  const file = wheelIn();
  if (code === 0 && file) show();
  progress.end();
  if (code !== 0 || !file) throw downloadObstacle(wheel, cache, output);
  return join(folder, file);
}

function downloadObstacle(wheel: Wheel, cache: string, output: string): Obstacle {
  if (/no space left on device|disk quota exceeded/i.test(output)) return diskFull(cache);
  const what = `${wheel.package} ${TENSORFLOW}`;
  if (
    /NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Max retries exceeded|Connection (aborted|broken|reset)/.test(
      output,
    )
  ) {
    return new Obstacle(
      `pip cannot reach its package index to download ${what}: check the network and proxy, or name a mirror by PIP_INDEX_URL, then run \`npm run setup\`.`,
    );
  }
  if (/No matching distribution/.test(output)) {
    return new Obstacle(
      `pip's package index does not offer ${what}: name one that mirrors PyPI in full by PIP_INDEX_URL, then run \`npm run setup\`.`,
    );
  }
  const reason =
    output
      .split('\n')
      .filter(line => /error/i.test(line))
      .pop()
      ?.trim() ?? 'no reason given';
  return new Obstacle(`pip failed to download ${what} (${reason}): mend that, then run \`npm run setup\`.`);
}

async function checkSum(file: string, wheel: Wheel): Promise<void> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const sum = hash.digest('hex');
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
