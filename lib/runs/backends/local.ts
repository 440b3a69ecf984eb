import type { ChildProcess } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { Failure } from '../../util/errors';
import { here } from '../console';
import type { Backend, Task } from './backend';

export interface LocalOptions {
  /** Trials at once, each in a process of its own. */
  jobs: number;
  /** How often a trial whose process was killed begins again, from its last checkpoint (default 1). */
  retries?: number;
  /** Starts `npm run trial` on a file, with stderr to be read; what it prints is to be added to the log. */
  launch(file: string, log: string): ChildProcess;
}

/** What a trial's process sends to the one that started it when nothing more can be written: its files may be unable to tell. */
export const DISK_FULL = 'the disk is full';

/**
 * Trains on this machine, with a log of each trial beside its file. The signal ends the trials under way, with a checkpoint each, and no other
 * starts; a full disk does too, with a Failure.
 */
export function localBackend({ jobs, retries = 1, launch }: LocalOptions): Backend {
  return {
    description: `${jobs} at once`,
    jobs,
    async run(tasks, progress, signal) {
      const queue = tasks.values();
      const trouble = new AbortController();
      const either = AbortSignal.any([signal, trouble.signal]);
      const work = async (): Promise<void> => {
        for (const task of queue) {
          if (either.aborted) return;
          try {
            progress.began(task);
            const { obstacle, full } = await trainHere(task, retries, launch, either);
            if (trouble.signal.aborted) return; // another one's trouble stopped it, which is no failure of its own
            progress.ended(task, obstacle);
            if (full)
              throw new Failure(`The sweep stops, for ${DISK_FULL}: make room, and rerun the command to resume.`);
          } catch (error) {
            trouble.abort();
            throw error;
          }
        }
      };
      const ends = await Promise.allSettled(Array.from({ length: Math.min(jobs, tasks.length) }, work));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    },
    farewell: () => 'Interrupted. Rerun the same command to resume.',
  };
}

/** Trains a task in a process, and again where that is killed: memory that ran out is no fault of the trial's. */
export async function trainHere(
  { file }: Pick<Task, 'file'>,
  retries: number,
  launch: LocalOptions['launch'],
  signal: AbortSignal,
): Promise<{ obstacle: string; full: boolean }> {
  const log = file.replace(/\.json$/, '.log');
  for (let attempt = 1; ; attempt++) {
    const { obstacle, killed, full } = await ending(launch(file, log), signal, log);
    if (killed && attempt <= retries && !signal.aborted) continue;
    const again = killed && attempt > 1 ? ` ${attempt === 2 ? 'twice' : `${attempt} times`}` : '';
    return { obstacle: `${obstacle}${again} (log: ${here(log)})`, full };
  }
}

interface Ending {
  /** Its last line on stderr, its exit status, or the signal that killed it. */
  obstacle: string;
  killed: boolean;
  /** Whether it found the disk full. */
  full: boolean;
}

const STDERR_KEPT = 10_000;

/** Waits for a process, which the signal ends, and says why it ended. */
async function ending(child: ChildProcess, signal: AbortSignal, log: string): Promise<Ending> {
  let said = '';
  let full = false;
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-STDERR_KEPT);
    try {
      appendFileSync(log, text);
    } catch {
      // What is said of a full disk finds no room on it.
    }
  });
  child.on('message', message => {
    full ||= message === DISK_FULL;
  });
  const stop = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await new Promise<Ending>(resolve => {
      child.once('error', error => resolve({ obstacle: error.message, killed: false, full }));
      child.once('close', (code, killer) => {
        const obstacle =
          killer === null ? (lastLine(said) ?? `it ended with exit status ${code}`) : `it was killed by ${killer}`;
        const end = (): void => resolve({ obstacle, killed: killer !== null, full });
        if (child.connected)
          child.once('disconnect', end); // after its last message
        else end();
      });
    });
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function lastLine(text: string): string | undefined {
  return text.trim().split('\n').at(-1) || undefined;
}
