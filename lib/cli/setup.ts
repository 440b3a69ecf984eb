import type { Command } from 'commander';
import { ensureEngine } from '../engine/build/install';

/** `npm run setup`: TensorFlow's library and addon. The first time 252 MB are downloaded and 1.2 GB of disk used; after that < 1 s. */
export function register(program: Command): void {
  program
    .command('setup')
    .description("set up TensorFlow's native engine (idempotent); tries again what failed before")
    .action(async () => {
      await ensureEngine({ retry: true, report: line => console.log(line) });
    });
}
