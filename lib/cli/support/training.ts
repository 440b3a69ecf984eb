import { RESULT_COLUMNS, resultRow } from '../../report/tables';
import { here } from '../../runs/console';
import { RUNS, type Run, reportFiles } from '../../runs/store';
import { textTable } from '../../util/tables';

/** Says what a run came to, and sets the exit status: 130 for one that was interrupted, which `command` resumes. */
export function finish(run: Run, runs: string, command = `npm run train -- --resume=${run.record.name}`): void {
  if (run.record.status !== 'done') {
    console.log(
      `Interrupted. ${here(run.folder)} holds what there is; resume with: ${command}${runs === RUNS ? '' : ` --runs=${runs}`}`,
    );
    process.exitCode = 130;
    return;
  }
  const { curve, page } = reportFiles(run);
  console.log(`\n${textTable(RESULT_COLUMNS, [resultRow(run)])}\n`);
  console.log(`learning curve  ${here(curve)}\nreport          ${here(page)}\nrun folder      ${here(run.folder)}`);
}

/**
 * From now on Ctrl-C, SIGTERM, the end of the terminal and that of a process which started this one as its own set a signal instead of
 * ending the process. npm and tsx pass on what the terminal has sent already, so that one Ctrl-C may arrive more than once.
 */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => controller.abort());
  process.on('disconnect', () => controller.abort());
  process.channel?.unref();
  if (process.connected === false) controller.abort(); // it ended while this one was still loading
  return controller.signal;
}
