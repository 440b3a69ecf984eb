import { statSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { Command } from 'commander';
import { writeReport } from '../report/runReport';
import { makeBundle } from '../runs/bundle';
import { openRun, RUNS } from '../runs/store';
import { writeFileAtomic } from '../util/files';
import { thousands } from '../util/tables';

interface Flags {
  out?: string;
  runs: string;
}

/** `npm run bundle -- RUN`: one file with all that is needed to run it again and to check it. */
export function register(program: Command): void {
  program
    .command('bundle')
    .description('pack a run into one file, to hand on')
    .argument('<run>', 'name or folder of a run that is done')
    .option('--out <path>', "the zip file, or a folder for it (default: beside the run's folder)")
    .option('--runs <folder>', 'where runs are kept', RUNS)
    .action(async (name: string, { out, runs }: Flags) => {
      const run = openRun(runs, name);
      const isFolder = out !== undefined && statSync(out, { throwIfNoEntry: false })?.isDirectory();
      const file = isFolder ? join(out, `${run.record.name}.zip`) : (out ?? `${run.folder}.zip`);
      const bytes = await makeBundle(run, writeReport);
      writeFileAtomic(file, bytes);
      console.log(
        `${relative(process.cwd(), file)} | ${thousands(bytes.length)} bytes | run it again with: npm run replay -- ${relative(process.cwd(), file)}`,
      );
    });
}
