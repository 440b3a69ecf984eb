import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Command } from 'commander';
import { openEngine } from '../engine/open';
import { consoleReporter } from '../runs/console';
import { RUNS } from '../runs/store';
import { readTrialFile, runTrial } from '../runs/trialFile';
import { setThreads } from '../util/threads';
import { finish, interruption } from './train';

/**
 * `npm run trial -- TRIAL.json`: trains one trial of a sweep into its run folder, in a process of its own, here or wherever a scheduler
 * starts it. What is done already isn't trained again, what was broken off goes on.
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
  finish(await runTrial(trial, runs, { reporter: consoleReporter(), interruption }), runs, `npm run trial -- ${path}`);
}

/** The command in a process of its own, that ends with this one: what it writes to stderr can be read, its stdout is left. */
export function startTrialProcess(path: string, runs: string): ChildProcess {
  const execArgv = ['--import', createRequire(__filename).resolve('tsx')];
  return fork(join(__dirname, 'main.ts'), ['trial', path, '--runs', runs], {
    execArgv,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
}
