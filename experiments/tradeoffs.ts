import { basename, relative } from 'node:path';
import type { Experiment } from '../lib/cli/support/experiments';
import { parseDataset } from '../lib/data/open';
import { openEngine } from '../lib/engine/open';
import { REPORTED } from '../lib/measure/reported';
import { architectureOf, MODELS, parseSize } from '../lib/model/registry';
import { percent } from '../lib/runs/console';
import { measureTradeoffs, TRADEOFFS_FILE, type Tradeoffs, writeTradeoffs } from '../lib/runs/tradeoffs';
import { byVariant, largestBudget, readResults, resultsFile } from '../lib/runs/trialResults';
import { oneOf, UserError } from '../lib/util/errors';
import { textTable, thousands } from '../lib/util/tables';
import { counted } from '../lib/util/text';

/** All networks, but for those that are there to be looked at. */
const COMPARED = MODELS.filter(name => !architectureOf(name).exhibit);

/**
 * What do the networks cost, and what is said of them? Parameters and MACs, counted; the time of one prediction, measured on this
 * machine, interleaved; top-1 where the experiment `variants` has been published; and beside them what was reported.
 *
 * `npm run experiment -- tradeoffs [--size=224] [--data=…]`. About a minute on 2 cores, which should have nothing else to do.
 *
 * Promises `experiments/results/tradeoffs.json`, which names the machine, and a table. Counts are the same everywhere; times hold for
 * this machine alone, and an interval says how far they spread while nothing but chance disturbed them.
 */
export const experiment: Experiment = {
  question: 'what do the networks cost, and what is said of them?',
  cost: '1 min',
  promise: 'parameters, MACs and latency, and top-1 where variants is published, beside what was reported',
  takes: ['size', 'only', 'data'],
  async run({ size = '224', only, data = 'petals' }) {
    const unknown = only?.find(model => !COMPARED.includes(model));
    if (unknown !== undefined)
      throw new UserError(`tradeoffs has no model '${unknown}': allowed are ${oneOf(COMPARED)}.`);
    const models = COMPARED.filter(model => only === undefined || only.includes(model));
    await openEngine({ announce: true });
    const measured = await measureTradeoffs(models, parseSize(size));
    writeTradeoffs(measured);
    const { cpu, cores, engine, node } = measured.machine;
    console.log(
      `${cpu}, ${counted(cores, 'core')} | ${engine}, Node ${node} | one image of ${measured.size.join('×')} px, compiled\n`,
    );
    console.log(formatTradeoffs(measured, data));
    console.log(`\nresults in ${relative(process.cwd(), TRADEOFFS_FILE)}`);
  },
};

function formatTradeoffs({ models, size: [height, width] }: Tradeoffs, data: string): string {
  const dataset = data.startsWith('folder:') ? basename(parseDataset(data).path) : data.split(':')[0];
  // Accuracy at another size than the times stands in no row with them.
  const rows = readResults(resultsFile('variants', dataset)).filter(
    row => row.height === height && row.width === width,
  );
  const trained = new Map(byVariant(largestBudget(rows), '').map(({ variant, top1 }) => [variant, top1.mean]));
  const table = models.map(({ model, params, macs, milliseconds: { value, low, high } }) => {
    const { top1, params: paramsReported, macs: macsReported } = REPORTED.find(({ ours }) => ours === model) ?? {};
    return {
      model,
      params: thousands(params),
      macs: `${(macs / 1e6).toFixed(1)} M`,
      latency: `${value.toFixed(1)} (${low.toFixed(1)}–${high.toFixed(1)})`,
      own: trained.has(model) ? percent(trained.get(model)!) : '–',
      params2: paramsReported ? `${(paramsReported / 1e6).toFixed(1)} M` : '–',
      macs2: macsReported ? `${macsReported / 1e6} M` : '–',
      top1: top1 ? percent(top1) : '–',
    };
  });
  return textTable(
    {
      model: 'model',
      params: 'params',
      macs: 'MACs',
      latency: 'ms (95 %)',
      own: `top-1, ${dataset} at this size`,
      params2: 'reported: params',
      macs2: 'MACs (FLOPs)',
      top1: 'top-1, ImageNet',
    },
    table,
  );
}
