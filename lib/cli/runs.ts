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
        const runs = names.map(name => openRun(folder, name));
        process.stdout.write(`${comparison(runs, highlight)}\n`); // not by console.log, which takes colours out
        return;
      }
      const runs = listRuns(folder, why => console.error(`Left out: ${why}`));
      console.log(runs.length > 0 ? listTable(runs) : `There are no runs in ${folder}.`);
    });
}
