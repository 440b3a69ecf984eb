import type { Command } from 'commander';
import { openEngine } from '../engine/open';
import { writeReport } from '../report/runReport';
import { DISK_FULL } from '../runs/backends/local';
import { consoleReporter } from '../runs/console';
import { RUNS } from '../runs/store';
import { readTrialFile, runTrial } from '../runs/trialFile';
import { noRoom } from '../util/files';
import { setThreads } from '../util/threads';
import { finish, interruption } from './support/training';

/**
 * `npm run trial -- TRIAL.json`: trains one trial of a sweep into its run folder, in a process of its own, here or wherever a scheduler
 * starts it. What is done already isn't trained again, what was interrupted is resumed.
 */
export function register(program: Command): void {
  program
    .command('trial')
    .description('train one trial, as a file describes it, into its run folder')
    .argument('<file>', 'a trial as JSON: { "recipe": …, "dataOptions": …, "threads": … }; sweeps write such files')
    .option('--runs <folder>', 'where runs are kept (default: experiments/runs)')
    .action(train);
}

async function train(path: string, { runs = RUNS }: { runs?: string }): Promise<void> {
  const trial = readTrialFile(path);
  if (trial.threads !== undefined) setThreads(trial.threads);
  await openEngine({ announce: true });
  try {
    const run = await runTrial(trial, runs, { reporter: consoleReporter(), interruption, writeReport });
    finish(run, runs, `npm run trial -- ${path}`);
  } catch (error) {
    if (noRoom(error) !== undefined) process.send?.(DISK_FULL);
    throw error;
  }
}
