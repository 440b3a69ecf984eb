import { join, relative, resolve } from 'node:path';
import type { Command } from 'commander';
import { type Findings, labReportFiles, readFindings, writeLabReport } from '../report/labReport';
import { listRuns, openRun, RUNS } from '../runs/store';
import { UserError } from '../util/errors';
import { ROOT } from '../util/root';
import { reportedExperiments } from './support/experiments';

interface Flags {
  data: string;
  out: string;
  runs: string;
  pdf?: boolean;
}

/** `npm run report [-- RUNS…]`: all that was found, as a page that opens from disk, and its charts as files. About 10 s. */
export function register(program: Command): void {
  program
    .command('report')
    .description(
      'write what was found as a page that needs nothing but itself, its charts as SVG, PNG and Vega-Lite, and its tables as Markdown, CSV, JSON and LaTeX',
    )
    .argument('[runs...]', 'runs to show, by name or folder (default: the latest on this data that is done)')
    .option('--data <name>', 'the dataset whose results are shown', 'flowers12')
    .option('--pdf', 'charts as PDF too, without their titles: for papers, which have captions')
    .option('--out <folder>', 'where the report goes', join(ROOT, 'experiments/report'))
    .option('--runs <folder>', 'where runs are kept', RUNS)
    .action(async (names: string[], { data, out, runs: folder, pdf }: Flags) => {
      const runs =
        names.length > 0
          ? names.map(name => openRun(folder, name))
          : listRuns(folder, why => console.error(`Left out: ${why}`))
              .filter(run => run.status === 'done' && run.record.dataset.name === data)
              .slice(0, 1);
      const findings = readFindings(data, await reportedExperiments(), runs);
      const missing = Object.entries(findings.results).flatMap(([experiment, rows]) =>
        rows.length === 0 ? [experiment] : [],
      );
      await write(findings, resolve(out), out, pdf);
      if (missing.length > 0)
        console.log(`On ${data} there are no results yet of ${missing.join(', ')}: the page says how to get them.`);
      for (const [what, path] of Object.entries(labReportFiles(resolve(out))))
        console.log(`${what.padEnd(6)}  ${relative(process.cwd(), path) || '.'}`);
    });
}

/** Throws UserError for a folder that cannot be one. */
async function write(findings: Findings, folder: string, given: string, pdf?: boolean): Promise<void> {
  try {
    await writeLabReport(findings, folder, { pdf });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== undefined && ['EEXIST', 'ENOTDIR', 'EACCES', 'ENOENT', 'EROFS', 'EISDIR'].includes(code))
      throw new UserError(`--out is '${given}', where no report can be written: ${(error as Error).message}.`);
    throw error;
  }
}
