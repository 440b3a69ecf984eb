import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { reportedExperiments } from '../lib/cli/support/experiments';
import { pooledDeviation, power, samplesNeeded } from '../lib/measure/statistics';
import { experimentSection } from '../lib/report/experimentSections';
import { byVariant, largestBudget, readResults, resultsFile } from '../lib/runs/trialResults';
import { ROOT } from '../lib/util/root';
import { markdownTable } from '../lib/util/tables';

const DATA = 'flowers12';

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
