import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openEngine } from '../../lib/engine/open';
import { writeReport } from '../../lib/report/runReport';
import { packArchive, readArchive } from '../../lib/runs/archive';
import { makeBundle } from '../../lib/runs/bundle';
import { ENTRY, manifestOf, readBundle, SOURCE } from '../../lib/runs/bundleFile';
import { digestSources } from '../../lib/runs/code';
import { startTrial } from '../../lib/runs/trial';
import { openPlan } from '../../lib/train/plan';
import { tinyRecipe } from '../training';

/** Writes a bundle of a run of seconds, its sources cut down to two small files: `smallBundle.ts PATH`. */
async function writeSmallBundle(path: string): Promise<void> {
  const runs = mkdtempSync(join(tmpdir(), 'fuzz-'));
  try {
    await openEngine();
    const reporter = { say() {}, step() {}, epoch() {}, end() {} };
    const recipe = tinyRecipe({ ema: 0, epochs: 1 });
    const run = await startTrial({
      plan: await openPlan(recipe),
      recipeName: 'petals',
      about: '',
      runs,
      reporter,
      writeReport,
    });
    writeFileSync(path, await makeBundle(run, writeReport));
    const entries = new Map([...(await readArchive(path))].filter(([name]) => !name.startsWith(SOURCE)));
    const [source, lock] = [Buffer.from('export {};'), Buffer.from('{}')];
    const record = JSON.parse(entries.get(ENTRY.run)!.toString()) as { environment: Record<string, unknown> };
    record.environment.code = digestSources([['lib/index.ts', source]]);
    record.environment.lockfile = createHash('sha256').update(lock).digest('hex');
    entries.set(ENTRY.run, Buffer.from(JSON.stringify(record)));
    entries.set(`${SOURCE}lib/index.ts`, source).set(`${SOURCE}package-lock.json`, lock).delete(ENTRY.manifest);
    writeFileSync(path, await packArchive(new Map([[ENTRY.manifest as string, manifestOf(entries)], ...entries])));
    await readBundle(path); // or every mutation would be refused for the same reason
  } finally {
    rmSync(runs, { recursive: true, force: true });
  }
}

void writeSmallBundle(process.argv[2]!);
