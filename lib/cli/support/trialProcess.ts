import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** `npm run trial` in a process of its own, that ends with this one: what it writes to stderr can be read, its stdout is left. */
export function startTrialProcess(path: string, runs: string): ChildProcess {
  const execArgv = ['--import', createRequire(__filename).resolve('tsx')];
  return fork(join(__dirname, '../main.ts'), ['trial', path, '--runs', runs], {
    execArgv,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
}
