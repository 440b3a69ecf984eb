import type { Command } from 'commander';
import { openEngine } from '../engine/open';
import { writeReport } from '../report/runReport';
import type { Bundle, BundledRun } from '../runs/bundleFile';
import { consoleReporter, duration, here, percent } from '../runs/console';
import type { Difference } from '../runs/differences';
import { decides } from '../runs/environment';
import { readBundles } from '../runs/experimentBundle';
import { absoluteData } from '../runs/portable';
import { replay } from '../runs/replay';
import { type KeptDataOptions, RUNS, reportFiles } from '../runs/store';
import { UserError } from '../util/errors';
import { allowedNames } from '../util/suggest';
import { counted } from '../util/text';
import { setThreads } from '../util/threads';
import { isAgreed } from './support/consent';
import { threadCount, withDataOptions } from './support/dataOptions';
import { finish, interruption } from './support/training';

interface Flags extends KeptDataOptions {
  data?: string;
  runs: string;
  yes?: boolean;
  only?: string;
  threads?: number;
}

/** `npm run replay -- FILE.zip`: exit status 0 for a rerun that is identical to the byte, 1 for one that is not, 2 for a file that is refused. */
export function register(program: Command): void {
  const command = program
    .command('replay')
    .description('run a bundle again, or all of an experiment, and compare what comes out to the byte')
    .argument('<file>', 'what `bundle` or `experiment --bundle` made')
    .option('--data <data>', 'where its images are: folder:PATH, or whatever `train` takes')
    .option('--only <run>', 'of an experiment, the run of this name')
    .option('--threads <n>', 'of TensorFlow inside an op; the bytes are the same by any number', threadCount)
    .option('--yes', 'also where it takes long')
    .option('--runs <folder>', 'where runs are kept', RUNS);
  withDataOptions(command).action(async (file: string, { only, yes = false, threads, ...flags }: Flags) => {
    const chosen = await choose(file, only);
    const seconds = chosen.map(timeThere);
    const total = seconds.includes(null) ? null : seconds.reduce<number>((sum, each) => sum + each!, 0);
    const rows = chosen.reduce((sum, { metrics }) => sum + metrics, 0);
    console.log(
      `${chosen.length === 1 ? chosen[0].run.name : counted(chosen.length, 'run')}: ${counted(rows, 'row')} to compare, about ${duration(total)} at the speed of where it was made`,
    );
    if (!yes && (total ?? Infinity) > LONG_S) await consent(total);
    // TensorFlow makes its threads when it is loaded.
    const needed = threads ?? threadsOf(chosen[0]);
    if (needed !== undefined && (threads || process.env.TF_NUM_INTRAOP_THREADS === undefined)) setThreads(needed);
    await openEngine({ announce: true });
    let identical = 0;
    for await (const bundle of readBundles(file)) {
      if (!chosen.some(({ run }) => run.name === bundle.run.name)) continue;
      const same = await replayOne(bundle, flags);
      if (same === undefined) return;
      if (same) identical++;
    }
    if (chosen.length > 1) console.log(`\n${identical} of ${counted(chosen.length, 'run')} identical to the byte`);
    process.exitCode = identical === chosen.length ? 0 : 1;
  });
}

/** What is told of a run before it is run again: its bundle, of which an experiment may have hundreds, is read once more for that. */
interface Chosen {
  run: BundledRun;
  /** Rows of them. */
  metrics: number;
}

/** The runs of a file, or the one that is asked for. Throws UserError where there is none, or where one process cannot replay them all. */
async function choose(file: string, only: string | undefined): Promise<Chosen[]> {
  const all: Chosen[] = [];
  for await (const { run, metrics } of readBundles(file)) all.push({ run, metrics: metrics.length });
  const chosen = all.filter(({ run }) => only === undefined || run.name === only);
  if (chosen.length === 0)
    throw new UserError(
      `'${file}' has no run '${only}': ${allowedNames(
        only ?? '',
        all.map(({ run }) => run.name),
      )}`,
    );
  if (new Set(chosen.map(threadsOf)).size > 1)
    throw new UserError(`The runs of '${file}' took different numbers of threads: replay one at a time, by --only.`);
  return chosen;
}

/** The threads that a run has to be replayed by to end at its bytes; undefined where any number will do. */
const threadsOf = ({ run: { environment } }: Pick<Bundle, 'run'>): number | undefined =>
  decides('threads', environment) ? environment.threads : undefined;

/** Whether what comes out is identical; undefined where it was interrupted. */
async function replayOne(bundle: Bundle, { data: dataset, runs, ...data }: Omit<Flags, 'only' | 'yes' | 'threads'>) {
  const { run, outcome, environment, otherPages } = await replay(bundle, {
    reporter: consoleReporter(),
    interruption,
    writeReport,
    dataset: dataset && absoluteData(dataset),
    runs,
    data,
  });
  if (outcome === undefined) {
    finish(run, runs);
    return undefined;
  }
  const {
    metrics,
    predictions,
    run: { result },
  } = bundle;
  const steps = metrics.filter(row => row.kind === 'step').length;
  console.log(
    outcome.length === 0
      ? `\nidentical to the byte: ${counted(steps, 'step')}, the predictions of ${counted(predictions.labels.length, 'image')}, top-1 ${percent(result.top1)}, and the weights ${result.weights}`
      : `\ndifferent\n${lines(outcome)}`,
  );
  const [deciding, information] = [true, false].map(wanted => environment.filter(each => each.decides === wanted));
  console.log(
    deciding.length === 0
      ? 'The environment is the same in all that can decide bytes.'
      : `The environment differs in what can decide bytes:\n${lines(deciding)}`,
  );
  if (information.length > 0) console.log(`Also other, with the promise of equal bytes:\n${lines(information)}`);
  if (otherPages.length > 0)
    console.log(
      `Of the bundle's pages ${otherPages.join(' and ')} ${otherPages.length === 1 ? 'says' : 'say'} other than its own files do here: drawn by another version of the lab, or altered. The replay's page is ${here(reportFiles(run).page)}.`,
    );
  console.log(`run folder ${here(run.folder)}`);
  return outcome.length === 0;
}

/** A bundle from anywhere may ask for days; what takes longer than this, in seconds, is asked for. */
const LONG_S = 10 * 60;

/** Seconds of training alone, at the speed that the bundle tells; where epochs are too short to have one, of the whole run; null for one that was interrupted. */
function timeThere({ run: { recipe, dataset, result, started, ended, resumedAt } }: Chosen): number | null {
  const images = recipe.epochs * dataset.train;
  if (result.imagesPerSecond) return images / result.imagesPerSecond;
  return ended === null || resumedAt.length > 0 ? null : (Date.parse(ended) - Date.parse(started)) / 1000;
}

/** Asks on a terminal. Throws UserError where nobody says yes. */
async function consent(seconds: number | null): Promise<void> {
  const long =
    seconds === null
      ? 'Nobody knows how long the replay takes'
      : `The replay takes long (about ${duration(seconds)} where it was made)`;
  if (await isAgreed(`${long}. Start it?`)) return;
  throw new UserError(`${long}: \`npm run replay -- FILE --yes\` starts it.`);
}

function lines(differences: Difference[]): string {
  return differences.map(({ what, how }) => `  ${what.padEnd(12)} ${how}`).join('\n');
}
