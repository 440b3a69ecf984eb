import type { Command } from 'commander';
import { quick } from '../../experiments/quick';

/** `npm start`: the experiment `quick`. */
export function register(program: Command): void {
  program
    .command('start')
    .description('train EdgeViT-XXS on drawn flowers, as a demonstration')
    .action(() => quick.run({}));
}
