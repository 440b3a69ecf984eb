import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { serve } from '../demo/serve';
import { writeSite } from '../demo/site';
import { hasGraphs } from '../engine/binding';
import { openEngine } from '../engine/open';
import { here } from '../runs/console';
import { listRuns, RUNS } from '../runs/store';
import { UserError } from '../util/errors';
import { newFolder } from '../util/folders';
import { wholeNumber } from './support/dataOptions';
import { loadExperiment } from './support/experiments';
import { openSource } from './support/source';
import { interruption } from './support/training';

interface Flags {
  out?: string;
  port: number;
  size?: string;
  runs: string;
}

/** `npm run demo [-- RUN]`: a page on which a model tells what images show, computed in the browser. Seconds. */
export function register(program: Command): void {
  program
    .command('demo')
    .description('serve a page, to this machine alone, that runs a trained model on images in the browser')
    .argument(
      '[source]',
      'a run, by name or folder, a folder of `export --to=hf`, or a file of weights (default: the latest run; without any, synthetic flowers are learned first)',
    )
    .option('--out <folder>', 'write the page as files for any web server, and serve nothing')
    .option('--port <n>', 'where it is served (default: any port that is free)', wholeNumber, 0)
    .option('--size <pixels>', 'side of the images, or HEIGHTxWIDTH, of a file that does not say (default: 224)')
    .option('--runs <folder>', 'where runs are kept', RUNS)
    .action(run);
}

async function run(given: string | undefined, { out, port, size, runs }: Flags): Promise<void> {
  await openEngine({ announce: true });
  if (!hasGraphs()) throw new UserError('Models are exported by the native engine only: npm run setup.');
  const source = await openSource(given ?? (await latestRun(runs)), { runs, size });
  if (out !== undefined) {
    const { folder, keep, discard } = newFolder(out, 'a page');
    try {
      await writeSite(source, folder);
      keep();
    } finally {
      discard();
    }
    console.log(`${source.name} as files in ${here(out)}: any web server can serve them.`);
    console.log(
      'Threads need the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp; without them WebAssembly runs on one.',
    );
    return;
  }
  const interrupted = interruption();
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-demo-'));
  try {
    await writeSite(source, folder);
    const { url, close } = await serve(folder, port);
    console.log(`${source.name} is served at ${url} until Ctrl-C, to this machine alone.`);
    if (!interrupted.aborted) await once(interrupted, 'abort');
    close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The name of the latest run that has weights. Where there is none, one of synthetic flowers is trained. */
async function latestRun(runs: string): Promise<string> {
  const latest = () => listRuns(runs).find(run => existsSync(run.lastCheckpoint))?.folder;
  const found = latest();
  if (found !== undefined) return found;
  if (runs !== RUNS) throw new UserError(`There is no run with weights in ${runs}: name one, or a file of weights.`);
  console.log('There is no run yet: synthetic flowers are learned first, which takes about 2 minutes.');
  await (await loadExperiment('quick')).run({});
  const trained = latest();
  if (trained === undefined) throw new UserError('No run came of it, so that there is nothing to show.');
  return trained;
}
