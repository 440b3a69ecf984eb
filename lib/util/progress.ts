import { stderr } from 'node:process';

export interface Progress {
  /** Tells how much of the total is done. */
  to(done: number): void;
  /** Ends the bar; the terminal's line is kept. */
  end(): void;
}

const WIDTH = 24;
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

/**
 * Progress over a number of bytes on stderr: a live bar on a terminal; in a pipe a line at the start and for every quarter,
 * because a log should not fill with percentages.
 */
export function byteProgress(label: string, total: number): Progress {
  const line = (done: number): string =>
    `${megabytes(done)} of ${megabytes(total)} MB, ${Math.floor((100 * done) / total)} %`;
  if (!stderr.isTTY) {
    let quarter = -1;
    return {
      to(done) {
        const reached = Math.floor((4 * Math.min(done, total)) / total);
        if (reached <= quarter) return;
        quarter = reached;
        stderr.write(`${label}: ${line(Math.min(done, total))}\n`);
      },
      end() {},
    };
  }
  return {
    to(done) {
      const filled = Math.round((WIDTH * Math.min(done, total)) / total);
      stderr.write(
        `\r\x1b[K${label} [${'='.repeat(filled)}${' '.repeat(WIDTH - filled)}] ${line(Math.min(done, total))}`,
      );
    },
    end() {
      stderr.write('\n');
    },
  };
}
