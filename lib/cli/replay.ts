import { relative } from 'node:path';
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { openEngine } from '../engine/open';
import { writeReport } from '../report/runReport';
import { type Bundle, readBundle } from '../runs/bundleFile';
import { consoleReporter, duration, percent } from '../runs/console';
import type { Difference } from '../runs/differences';
import { replay } from '../runs/replay';
import { type KeptDataOptions, RUNS } from '../runs/store';
import { UserError } from '../util/errors';
import { setThreads } from '../util/threads';
import { withDataOptions } from './support/dataOptions';
import { finish, interruption } from './support/training';

interface Flags extends KeptDataOptions {
  data?: string;
  runs: string;
  yes?: boolean;
}

/** `npm run replay -- FILE.zip`: exit status 0 for a rerun that is identical to the byte, 1 for one that is not, 2 for a file that is refused. */
export function register(program: Command): void {
  const command = program
    .command('replay')
    .description('run a bundle again, and compare what comes out to the byte')
    .argument('<file>', 'what `bundle` made')
    .option('--data <data>', 'where its images are: folder:PATH, or whatever `train` takes')
    .option('--yes', 'also where it takes long')
    .option('--runs <folder>', 'where runs are kept', RUNS);
  withDataOptions(command).action(async (file: string, { data: dataset, runs, yes = false, ...data }: Flags) => {
    const bundle = await readBundle(file);
    const seconds = timeThere(bundle);
    console.log(
      `${bundle.run.name}: ${bundle.metrics.length} rows to compare, about ${duration(seconds)} at the speed of where it was made`,
    );
    if (!yes && (seconds ?? Infinity) > LONG_S) await consent(seconds);
    // Sums of another number of threads round otherwise, and TensorFlow makes its threads when it is loaded.
    if (process.env.TF_NUM_INTRAOP_THREADS === undefined) setThreads(bundle.run.environment.threads);
    await openEngine({ announce: true });
    const { run, outcome, environment } = await replay(bundle, {
      reporter: consoleReporter(),
      interruption,
      writeReport,
      dataset,
      runs,
      data,
    });
    if (outcome === undefined) return finish(run, runs);
    const {
      metrics,
      predictions,
      run: { result },
    } = bundle;
    const steps = metrics.filter(row => row.kind === 'step').length;
    console.log(
      outcome.length === 0
        ? `\nidentical to the byte: ${steps} steps, the predictions of ${predictions.labels.length} images, top-1 ${percent(result.top1)}, and the weights ${result.weights}`
        : `\ndifferent\n${lines(outcome)}`,
    );
    const [deciding, information] = [true, false].map(decides => environment.filter(each => each.decides === decides));
    console.log(
      deciding.length === 0
        ? 'The environment is the same in all that can decide bytes.'
        : `The environment differs in what can decide bytes:\n${lines(deciding)}`,
    );
    if (information.length > 0) console.log(`Also other, without effect on them:\n${lines(information)}`);
    console.log(`run folder ${relative(process.cwd(), run.folder)}`);
    process.exitCode = outcome.length === 0 ? 0 : 1;
  });
}

/** A bundle from anywhere may ask for days; what takes longer than this, in seconds, is asked for. */
const LONG_S = 10 * 60;

/** Seconds of training alone, at the speed that the bundle tells; null where it tells none. */
function timeThere({ run: { recipe, dataset, result } }: Bundle): number | null {
  const images = recipe.epochs * dataset.train;
  return result.imagesPerSecond ? images / result.imagesPerSecond : null;
}

/** Asks on a terminal. Throws UserError where nobody says yes. */
async function consent(seconds: number | null): Promise<void> {
  const long = `The replay takes long (${seconds === null ? 'nobody knows how long' : `about ${duration(seconds)} where it was made`})`;
  if (process.stdin.isTTY && process.stdout.isTTY) {
    const terminal = createInterface({ input: process.stdin, output: process.stdout });
    const answer = await terminal.question(`${long}. Start it? [y/N] `);
    terminal.close();
    if (/^y(es)?$/i.test(answer.trim())) return;
  }
  throw new UserError(`${long}: \`npm run replay -- FILE --yes\` starts it.`);
}

function lines(differences: Difference[]): string {
  return differences.map(({ what, how }) => `  ${what.padEnd(12)} ${how}`).join('\n');
}
