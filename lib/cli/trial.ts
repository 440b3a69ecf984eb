import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ensureEngine } from '../engine/build/install';

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

async function train(path: string, flags: { runs?: string }): Promise<void> {
  takeThreads(path);
  await ensureEngine();
  const [{ consoleReporter }, { RUNS }, { readTrialFile, runTrial }, { finish, interruption }] = await Promise.all([
    import('../runs/console'),
    import('../runs/store'),
    import('../runs/trialFile'),
    import('./train'),
  ]);
  const { runs = RUNS } = flags;
  finish(
    await runTrial(readTrialFile(path), runs, { reporter: consoleReporter(), interruption }),
    runs,
    `npm run trial -- ${path}`,
  );
}

/** TensorFlow makes its threads as it is loaded, which is before the rest of the file can be understood. */
function takeThreads(path: string): void {
  const [, threads] = /"threads":\s*([1-9]\d*)\b/.exec(readIfThere(path)) ?? [];
  if (threads === undefined) return;
  for (const name of ['TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS', 'OMP_NUM_THREADS'])
    process.env[name] = threads;
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // which is told, in full, by what reads it again
  }
}

/** The command in a process of its own, that ends with this one: what it writes to stderr can be read, its stdout is left. */
export function startTrialProcess(path: string, runs: string): ChildProcess {
  const execArgv = ['--import', createRequire(__filename).resolve('tsx')];
  return fork(join(__dirname, 'main.ts'), ['trial', path, '--runs', runs], {
    execArgv,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
}
