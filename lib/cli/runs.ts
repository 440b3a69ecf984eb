import { styleText } from 'node:util';
import type { Command } from 'commander';
import { comparison, listTable } from '../report/runTables';
import { deleteRun, isAskedFor, writeNote } from '../runs/manage';
import { listRuns, openRun, RUNS, type Run } from '../runs/store';
import { UserError } from '../util/errors';
import { counted } from '../util/text';
import { isAgreed } from './support/consent';
import { wholeNumber } from './support/dataOptions';

interface Flags {
  runs: string;
  filter: string[];
  limit?: number;
  note?: string;
  delete?: boolean;
  yes?: boolean;
}

/** `npm run runs [-- RUN…]`: lists the run folders, those of sweeps too, compares some of them, notes something about them or deletes them. */
export function register(program: Command): void {
  program
    .command('runs')
    .description('list all runs, or compare those that are named: their results, and where their settings differ')
    .argument('[runs...]', 'names, or paths of run folders')
    .option(
      '--filter <key=value>',
      'only runs with that status, data, recipe or setting, or with that word in name or note; repeatable',
      (value: string, all: string[]) => [...all, value],
      [],
    )
    .option('--limit <n>', 'only the latest', wholeNumber)
    .option('--note <text>', 'keep a line about the named run; an empty one removes it')
    .option('--delete', 'delete the named runs, or those of --filter')
    .option('--yes', 'with --delete: without a question')
    .option('--runs <folder>', 'where runs are kept', RUNS)
    .action(run);
}

async function run(names: string[], { runs: folder, filter, limit, note, delete: remove, yes }: Flags): Promise<void> {
  const isChosen = names.length > 0 || filter.length > 0 || limit !== undefined;
  const all =
    names.length > 0
      ? names.map(name => openRun(folder, name))
      : listRuns(folder, why => console.error(`Left out: ${why}`));
  const matching = all.filter(each => isAskedFor(each, filter));
  const chosen = matching.slice(0, limit);
  if (note !== undefined || remove) {
    if (!isChosen)
      throw new UserError(`${remove ? '--delete' : '--note'} is for runs that are named, or chosen by --filter.`);
    if (note !== undefined) for (const each of chosen) writeNote(each, note);
    if (remove) await removeAll(chosen, yes);
    else console.log(listTable(chosen));
    return;
  }
  if (names.length > 0) {
    const isPlain = !process.stdout.isTTY || process.env.NO_COLOR;
    const highlight = isPlain ? undefined : (text: string) => styleText(['bold', 'yellow'], text);
    if (chosen.length === 0) console.log('None of these runs is one that --filter asks for.');
    else process.stdout.write(`${comparison(chosen, highlight)}\n`); // not by console.log, which takes colours out
    return;
  }
  if (all.length === 0) console.log(`There are no runs in ${folder}.`);
  else
    console.log(
      chosen.length > 0 ? listTable(chosen) : `None of ${counted(all.length, 'run')} is one that --filter asks for.`,
    );
  if (chosen.length > 0 && chosen.length < all.length)
    console.log(`\n${chosen.length} of ${counted(all.length, 'run')}`);
}

async function removeAll(runs: readonly Run[], yes?: boolean): Promise<void> {
  if (runs.length === 0) throw new UserError('There are no such runs to delete.');
  const what = `Delete ${counted(runs.length, 'run')} for ever: ${runs.map(({ record }) => record.name).join(', ')}?`;
  if (!yes && !(await isAgreed(what))) throw new UserError(`${what} \`--yes\` does, without a question.`);
  for (const each of runs) {
    deleteRun(each);
    console.log(`deleted ${each.record.name}`);
  }
}
