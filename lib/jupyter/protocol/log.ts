import { write, writeSync } from 'node:fs';
import { counted } from '../../util/text';
import { LOG } from './descriptors';

/** Whoever can send the kernel a byte can make it complain. */
const PER_MINUTE = 20;

let written = 0;
let since = 0;
let leftOut = 0;
let isWriting = false;

/**
 * A line about the kernel itself, for whoever started it. It may be closed, or full for ever: then the line is lost, and nothing waits. Further
 * lines of the same minute are counted instead.
 */
export function log(line: string): void {
  if (Date.now() - since > 60_000) {
    written = 0;
    since = Date.now();
  }
  if (isWriting || written >= PER_MINUTE) {
    leftOut++;
    return;
  }
  written++;
  isWriting = true;
  const before = leftOut > 0 ? `edgevit-lab kernel: ${counted(leftOut, 'line')} left out here\n` : '';
  leftOut = 0;
  write(LOG, `${before}edgevit-lab kernel: ${line}\n`, () => {
    isWriting = false;
  });
}

/** The last line before the process ends. */
export function lastWords(line: string): void {
  try {
    writeSync(LOG, `edgevit-lab kernel: ${line}\n`);
  } catch {
    // nobody listens any more
  }
}

/** A thread that writes to a full pipe lets no process end but by force. */
export function logIsStuck(): boolean {
  return isWriting;
}
