/* A contender that does no work and says how long it took: `node standIn.cjs SECONDS [fail|die]`; it counts its runs for tests. */
const { createInterface } = require('node:readline');

const [seconds, mood] = process.argv.slice(2);
let runs = 0;

function answer(request) {
  if (request.prepare) {
    if (mood === 'fail') return { error: 'no such model' };
    return { ready: { versions: { standIn: '1.0' }, settings: `${seconds} s, ${request.prepare.threads} threads` } };
  }
  if (request.rss) return { rss: 1e9 * Number(seconds) };
  if (mood === 'die') {
    console.error('out of memory');
    process.exit(3);
  }
  // The first runs are slow, as everywhere: they must not be counted.
  return { seconds: Array.from({ length: request.run }, () => (runs++ < 2 ? 1000 : Number(seconds))) };
}

createInterface({ input: process.stdin }).on('line', line => console.log(JSON.stringify(answer(JSON.parse(line)))));
