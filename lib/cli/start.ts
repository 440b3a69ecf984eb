import type { Command } from 'commander';
import { loadExperiment } from './support/experiments';

/** `npm start`: the experiment `quick`. */
export function register(program: Command): void {
  program
    .command('start')
    .description('train EdgeViT-XXS on synthetic flowers, as a demonstration')
    .action(async () => (await loadExperiment('quick')).run({}));
}
