import { existsSync, statSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { openEngine } from '../engine/open';
import { onnxPrediction } from '../export/prediction';
import type { Estimate } from '../measure/latency';
import { ENGINES, type Engine, JS_PLAN, type Latencies, measureLatency, PLAN } from '../measure/latencyTable';
import { MODELS, parseSize } from '../model/registry';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { allowedNames } from '../util/suggest';
import { textTable } from '../util/tables';
import { counted } from '../util/text';
import { wholeNumber } from './support/dataOptions';

interface Flags {
  size: string;
  batch: number;
  engines: Engine[];
  rounds: number;
  json?: string;
}

/** `npm run latency -- MODEL…`: how long a prediction takes, models and engines interleaved. About 15 s a model; minutes with pure JavaScript. */
export function register(program: Command): void {
  program
    .command('latency')
    .description(
      'time predictions of models by engines, interleaved: median, 90th and 99th percentile, with 95 % intervals',
    )
    .argument('<models...>', MODELS.join(', '))
    .option('--size <pixels>', 'side of the images, or height x width: 192x256', '224')
    .option('--batch <n>', 'images at once', wholeNumber, 1)
    .option(
      '--engines <names>',
      Object.entries(ENGINES)
        .map(([name, what]) => `${name} (${what})`)
        .join('; '),
      engineNames,
      ['eager', 'compiled'],
    )
    .option(
      '--rounds <n>',
      `in which each has ${PLAN.perRound} runs timed; of pure JavaScript there are at most ${JS_PLAN.rounds}, of one run`,
      wholeNumber,
      PLAN.rounds,
    )
    .option('--json <file>', 'where the figures are written as well')
    .action(run);
}

async function run(models: string[], { size, batch, engines, rounds, json }: Flags): Promise<void> {
  const path = json === undefined ? undefined : resolve(json);
  if (path !== undefined && existsSync(path) && statSync(path).isDirectory())
    throw new UserError(`--json is '${json}', which is a folder: a file is expected.`);
  const plans = { plan: { ...PLAN, rounds }, jsPlan: { ...JS_PLAN, rounds: Math.min(rounds, JS_PLAN.rounds) } };
  await openEngine({ announce: true });
  const measured = await measureLatency({
    models: [...new Set(models)],
    engines,
    size: parseSize(size),
    batch,
    onnx: onnxPrediction,
    ...plans,
  });
  console.log(format(measured));
  if (path === undefined) return;
  writeFileAtomic(path, `${JSON.stringify(measured, null, 2)}\n`);
  console.log(`\nfigures in ${relative(process.cwd(), path)}`);
}

function format({ machine: { cpu, cores, engine, node }, size, batch, rows }: Latencies): string {
  const table = rows.map(({ model, engine, milliseconds, p90, p99, timings }) => ({
    model,
    engine,
    p50: interval(milliseconds),
    p90: interval(p90),
    p99: interval(p99),
    rate: ((1000 * batch) / milliseconds.value).toFixed(1),
    timings: String(timings),
  }));
  const columns = {
    model: 'model',
    engine: 'engine',
    p50: 'p50, ms (95 %)',
    p90: 'p90',
    p99: 'p99',
    rate: 'img/s',
    timings: 'timings',
  };
  return [
    `${cpu}, ${counted(cores, 'core')} | ${engine}, Node ${node} | batch ${batch} of ${size.join('×')} px, from host memory to logits in host memory`,
    '',
    textTable(columns, table),
    '',
    'Models and engines were interleaved, pure JavaScript apart from the others; warm-up is left out. Intervals are by bootstrap over rounds, and hold',
    'for this machine as it was: what else ran on it is in them. A dash is a percentile that so few timings cannot tell.',
    'Energy was not measured: there is no meter for it here, and a guess would only repeat the time.',
  ].join('\n');
}

function interval(estimate: Estimate | null): string {
  if (!estimate) return '–';
  const [value, low, high] = [estimate.value, estimate.low, estimate.high].map(ms => ms.toFixed(ms < 1000 ? 1 : 0));
  return `${value} (${low}–${high})`;
}

function engineNames(text: string): Engine[] {
  const names = text.split(',');
  const unknown = names.find(name => !Object.hasOwn(ENGINES, name));
  if (unknown !== undefined)
    throw new InvalidArgumentError(
      `Unknown engine '${unknown}', in a list separated by commas: ${allowedNames(unknown, Object.keys(ENGINES))}`,
    );
  return [...new Set(names)] as Engine[];
}
