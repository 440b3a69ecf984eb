import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Chart } from '../lib/charts/style';
import { toSvg } from '../lib/charts/svg';
import { reportedExperiments } from '../lib/cli/support/experiments';
import { pooledDeviation, power, samplesNeeded } from '../lib/measure/statistics';
import { experimentSection } from '../lib/report/experimentSections';
import { reportedSection, tradeoffSection } from '../lib/report/tradeoffSections';
import { readTradeoffs } from '../lib/runs/tradeoffs';
import { byVariant, largestBudget, readResults, resultsFile } from '../lib/runs/trialResults';
import { ROOT } from '../lib/util/root';
import { markdownTable } from '../lib/util/tables';

const DATA = 'flowers12';
const CHARTS = join(ROOT, 'experiments/results/charts');

const experiments = await reportedExperiments();

test.each(experiments.map(experiment => [experiment.name, experiment] as const))(
  "RESULTS.md holds the table of %s's published rows",
  (name, experiment) => {
    const rows = readResults(resultsFile(name, DATA));
    const [table] = experimentSection(experiment, DATA, rows).tables;
    expect(rows.length).toBeGreaterThan(0);
    expect(readFileSync(join(ROOT, 'experiments/RESULTS.md'), 'utf8')).toContain(markdownTable(table));
  },
);

test('the charts of RESULTS.md are those that the report draws of the published rows', async () => {
  const rows = (name: string) => readResults(resultsFile(name, DATA));
  const sections = [
    ...experiments.map(experiment => experimentSection(experiment, DATA, rows(experiment.name))),
    tradeoffSection(rows('variants'), readTradeoffs()),
    reportedSection(readTradeoffs()),
  ];
  const drawn = Object.assign({}, ...sections.map(({ charts }) => charts)) as Record<string, Chart>;
  expect(readdirSync(CHARTS).sort()).toEqual(
    Object.keys(drawn)
      .map(name => `${name}.svg`)
      .sort(),
  );
  const stale = await Promise.all(
    Object.entries(drawn).map(async ([name, chart]) =>
      (await toSvg(chart)) === readFileSync(join(CHARTS, `${name}.svg`), 'utf8') ? [] : [name],
    ),
  );
  expect(stale.flat(), `npm run report -- --data=${DATA} draws them`).toEqual([]);
});

test('RESULTS.md tells the power of the comparisons that its rows have', () => {
  const differences = (name: string) =>
    byVariant(
      largestBudget(readResults(resultsFile(name, DATA))),
      experiments.find(experiment => experiment.name === name)!.baseline,
    ).flatMap(({ difference }) => difference ?? []);
  const deviation = pooledDeviation(['lgl', 'attention', 'sample-rates', 'delegates'].flatMap(differences));
  const text = readFileSync(join(ROOT, 'experiments/RESULTS.md'), 'utf8').replace(/\s+/g, ' ');
  expect(text).toContain(`deviates by ${(100 * deviation).toFixed(1)} points`);
  expect(text).toContain(`to detect 2 points with 80 % power takes ${samplesNeeded(0.02, deviation)} seeds`);
  expect(text).toContain(`Three have a power of ${(100 * power(0.02, deviation, 3)).toFixed(0)} %`);
});
