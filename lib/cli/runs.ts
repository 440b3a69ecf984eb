import { styleText } from 'node:util';
import type { Command } from 'commander';
import { comparison, listTable } from '../report/runTables';
import { listRuns, openRun, RUNS } from '../runs/store';

/** `npm run runs [-- RUN…]`: lists the run folders, those of sweeps too, or compares some of them. */
export function register(program: Command): void {
  program
    .command('runs')
    .description('list all runs, or compare those that are named: their results, and where their settings differ')
    .argument('[runs...]', 'names, or paths of run folders')
    .option('--runs <folder>', 'where runs are kept', RUNS)
    .action((names: string[], { runs: folder }: { runs: string }) => {
      if (names.length > 0) {
        const highlight =
          process.stdout.isTTY && !process.env.NO_COLOR
            ? (text: string) => styleText(['bold', 'yellow'], text)
            : undefined;
        console.log(
          comparison(
            names.map(name => openRun(folder, name)),
            highlight,
          ),
        );
        return;
      }
      const runs = listRuns(folder);
      console.log(runs.length > 0 ? listTable(runs) : `There are no runs in ${folder}.`);
    });
}
