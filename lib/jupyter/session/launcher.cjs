'use strict';
// What a front end starts: `node launcher.cjs CONNECTION_FILE [--js] [--lenient]`. The kernel itself is its child, whose descriptors 1 and 2 are
// pipes, so that what a process started by a cell writes, or native code, is output of that cell too: Node cannot redirect its own.
// Signals go to the kernel, its end is the launcher's end, and neither outlives the other or the front end.
const { spawn } = require('node:child_process');
const { write } = require('node:fs');
const { constants } = require('node:os');
const { join } = require('node:path');
const { getHeapStatistics } = require('node:v8');

const LAST_WORDS = 8192;
/** What the kernel writes among the text of cells to keep descriptors in order (protocol/descriptors.ts). */
const MARKS = /\0[^\0]*\0/g;

/** V8's last words, above a stack of its own that tells nobody anything. */
const OUT_OF_MEMORY = /FATAL ERROR: .*JavaScript heap out of memory/;

const [, , ...args] = process.argv;
const kernel = spawn(process.execPath, [...process.execArgv, join(__dirname, 'threads.cjs'), ...args], {
  // 3 and 4: what came out of 1 and 2. 5: where the kernel speaks of itself.
  stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 2],
});

let lastWords = '';
kernel.stderr.on('data', text => {
  lastWords = (lastWords + text.toString()).slice(-LAST_WORDS);
});
for (const [from, to] of [
  [kernel.stdout, kernel.stdio[3]],
  [kernel.stderr, kernel.stdio[4]],
]) {
  from.pipe(to, { end: false }); // a cell may close descriptor 1 or 2
  for (const stream of [from, to]) stream.on('error', () => {}); // the kernel has ended; that is told below
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'])
  process.on(signal, () => kernel.kill(signal));

// A front end that was killed leaves nobody to shut the kernel down. It hears of it by the end of its pipes.
const parent = process.ppid;
const watch = setInterval(() => {
  if (process.ppid !== parent) for (const number of [3, 4]) kernel.stdio[number].destroy();
}, 1000);

kernel.on('error', error => {
  process.stderr.write(`edgevit-lab kernel: it could not start: ${error.message}\n`);
  process.exit(1);
});
// 'close' comes when all that was written has been read.
kernel.on('close', (code, signal) => {
  clearInterval(watch);
  const end = () => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
    setTimeout(() => process.exit(128 + constants.signals[signal]), 1000); // a signal that ends nothing
  };
  const megabytes = Math.round(getHeapStatistics().heap_size_limit / 2 ** 20);
  const said =
    signal !== null && OUT_OF_MEMORY.test(lastWords)
      ? `edgevit-lab kernel: out of memory, limit ${megabytes} MB: NODE_OPTIONS=--max-old-space-size=${2 * megabytes} doubles it\n`
      : lastWords.replace(MARKS, '');
  if (code === 0 || said.trim() === '') end();
  else {
    write(2, said, end);
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), 2000); // it is full, and nobody reads
  }
});
