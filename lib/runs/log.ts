import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { noRoom } from '../util/files';
import { consoleReporter, type Reporter } from './console';
import type { Run } from './store';

/** A reporter whose lines are kept in the run's folder too: whoever reads the output may go away before the end. */
export function logged(reporter: Reporter, run: Run): Reporter {
  const path = join(run.folder, 'log.txt');
  const log = consoleReporter({
    write(text) {
      try {
        appendFileSync(path, text);
      } catch (error) {
        if (noRoom(error) === undefined) throw error; // what the run itself has to write will say so
      }
    },
  });
  const both = [reporter, log];
  return {
    say(line) {
      for (const each of both) each.say(line);
    },
    step(event, totals) {
      for (const each of both) each.step(event, totals);
    },
    epoch(event, totals) {
      for (const each of both) each.epoch(event, totals);
    },
    end() {
      for (const each of both) each.end();
    },
  };
}
