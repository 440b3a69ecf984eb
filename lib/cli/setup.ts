import type { Command } from 'commander';
import { ensureEngine, installAll } from '../engine/build/install';

/** `npm run setup`: TensorFlow's library and addon. The first time 252 MB are downloaded and 1.2 GB of disk used; after that < 1 s. */
export function register(program: Command): void {
  program
    .command('setup')
    .description("set up TensorFlow's native engine (idempotent); tries again what failed before")
    .option('--all', 'build the addon for every instruction set, for a folder or an image that other machines use')
    .action(async ({ all = false }: { all?: boolean }) => {
      const report = (line: string): void => console.log(line);
      if (all) await installAll(report);
      await ensureEngine({ retry: true, report });
    });
}
