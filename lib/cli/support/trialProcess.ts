import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const MAIN = join(__dirname, '../main.ts');
const tsx = (): string => createRequire(__filename).resolve('tsx');

/** The words by which another machine with this checkout begins `npm run trial`. */
export function trialCommand(): string[] {
  return [process.execPath, '--import', tsx(), MAIN, 'trial'];
}

/** `npm run trial` in a process of its own, that ends with this one: what it writes to stderr can be read, its stdout is added to a log. */
export function startTrialProcess(path: string, runs: string, log: string): ChildProcess {
  const file = openSync(log, 'a');
  try {
    return fork(MAIN, ['trial', path, '--runs', runs], {
      execArgv: ['--import', tsx()],
      stdio: ['ignore', file, 'pipe', 'ipc'],
    });
  } finally {
    closeSync(file); // the process has its own
  }
}
