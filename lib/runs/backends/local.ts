import type { ChildProcess } from 'node:child_process';
import type { Backend } from './backend';

export interface LocalOptions {
  /** Trials at once, each in a process of its own. */
  jobs: number;
  /** Starts `npm run trial` on a file, with stderr to be read. */
  launch(file: string): ChildProcess;
}

/** Trains on this machine. The signal ends the trials under way, with a checkpoint each, and no other starts. */
export function localBackend({ jobs, launch }: LocalOptions): Backend {
  return {
    description: `${jobs} at once`,
    jobs,
    async run(tasks, progress, signal) {
      const queue = tasks.values();
      const work = async (): Promise<void> => {
        for (const task of queue) {
          if (signal.aborted) return;
          progress.began(task);
          progress.ended(task, await outcome(launch(task.file), signal));
        }
      };
      await Promise.all(Array.from({ length: jobs }, work));
    },
    farewell: () => 'Interrupted. Rerun the same command to resume.',
  };
}

const STDERR_KEPT = 10_000;

/** Waits for a process, and says why it ended: its last line on stderr, or the signal that killed it. */
async function outcome(child: ChildProcess, signal: AbortSignal): Promise<string> {
  let said = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-STDERR_KEPT);
  });
  const stop = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await new Promise<string>(resolve => {
      child.once('error', error => resolve(error.message));
      child.once('close', (code, killer) =>
        resolve(
          killer === null ? (lastLine(said) ?? `it ended with exit status ${code}`) : `it was killed by ${killer}`,
        ),
      );
    });
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function lastLine(text: string): string | undefined {
  return text.trim().split('\n').at(-1) || undefined;
}
