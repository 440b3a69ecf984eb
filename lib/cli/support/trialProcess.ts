import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** `npm run trial` in a process of its own, that ends with this one: what it writes to stderr can be read, its stdout is added to a log. */
export function startTrialProcess(path: string, runs: string, log: string): ChildProcess {
  const execArgv = ['--import', createRequire(__filename).resolve('tsx')];
  const file = openSync(log, 'a');
  try {
    return fork(join(__dirname, '../main.ts'), ['trial', path, '--runs', runs], {
      execArgv,
      stdio: ['ignore', file, 'pipe', 'ipc'],
    });
  } finally {
    closeSync(file); // the process has its own
  }
}
