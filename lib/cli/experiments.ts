import type { Command } from 'commander';
import { loadExperiments } from './support/experiments';

/** `npm run experiments`: what can be asked, what it costs and what comes out. */
export function register(program: Command): void {
  program
    .command('experiments')
    .description('list the experiments with runtime and expected output')
    .action(async () => {
      for (const [name, { question, cost, promise }] of await loadExperiments()) {
        console.log(`${name}\n  asks      ${question}\n  costs     ${cost}\n  promises  ${promise}\n`);
      }
      console.log('npm run experiment -- NAME answers one; --help lists its flags.');
    });
}
