import { relative } from 'node:path';
import type { Command } from 'commander';
import { openEngine } from '../engine/open';
import { writeReport } from '../report/runReport';
import { readBundle } from '../runs/bundleFile';
import { consoleReporter } from '../runs/console';
import type { Difference } from '../runs/differences';
import { replay } from '../runs/replay';
import { type KeptDataOptions, RUNS } from '../runs/store';
import { setThreads } from '../util/threads';
import { withDataOptions } from './support/dataOptions';
import { finish, interruption } from './support/training';

interface Flags extends KeptDataOptions {
  data?: string;
  runs: string;
}

/** `npm run replay -- FILE.zip`: exit status 0 for a rerun that is identical to the byte, 1 for one that is not, 2 for a file that is refused. */
export function register(program: Command): void {
  const command = program
    .command('replay')
    .description('run a bundle again, and compare what comes out to the byte')
    .argument('<file>', 'what `bundle` made')
    .option('--data <data>', 'where its images are: folder:PATH, or whatever `train` takes')
    .option('--runs <folder>', 'where runs are kept', RUNS);
  withDataOptions(command).action(async (file: string, { data: dataset, runs, ...data }: Flags) => {
    const bundle = await readBundle(file);
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
        ? `\nidentical to the byte: ${steps} steps, the predictions of ${predictions.labels.length} images, and the weights ${result.weights}`
        : `\ndifferent\n${lines(outcome)}`,
    );
    console.log(
      environment.length === 0 ? 'The environment is the same.' : `The environment differs:\n${lines(environment)}`,
    );
    console.log(`run folder ${relative(process.cwd(), run.folder)}`);
    process.exitCode = outcome.length === 0 ? 0 : 1;
  });
}

function lines(differences: Difference[]): string {
  return differences.map(({ what, how }) => `  ${what.padEnd(12)} ${how}`).join('\n');
}
