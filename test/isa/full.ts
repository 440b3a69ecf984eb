import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findMask, MASKS, type Mask } from './masks';

/** `npm run test:isa [-- haswell|vnni …]`: the whole suite, masked, once for each mask (default: all). A mask that can't be had here is skipped, with the reason. */
async function main(masks: readonly Mask[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-isa-'));
  try {
    for (const mask of masks) {
      const way = await findMask(mask, folder);
      if (typeof way === 'string') {
        console.log(`${mask}: skipped, because ${way}`);
        continue;
      }
      if (!way.env.LD_PRELOAD) {
        console.log(
          `${mask}: skipped, because this system has no CPUID faulting, and by ${way.how} the suite would last for hours; npm run test:masked runs a subset so`,
        );
        continue;
      }
      console.log(`${mask}: by ${way.how}`);
      const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/vitest.config.mts'];
      const { status } = spawnSync(process.execPath, vitest, {
        cwd: join(__dirname, '../..'),
        env: { ...process.env, ...way.env },
        stdio: 'inherit',
      });
      if (status !== 0) process.exitCode = 1;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const asked = process.argv.slice(2);
const unknown = asked.find(name => !MASKS.includes(name as Mask));
if (unknown !== undefined) {
  console.error(`Unknown mask '${unknown}': allowed are ${MASKS.join(' and ')}.`);
  process.exitCode = 2;
} else void main(asked.length ? (asked as Mask[]) : MASKS);
