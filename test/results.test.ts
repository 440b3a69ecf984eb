import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { EXPERIMENTS, type ExperimentName, experimentSection } from '../lib/report/experimentSections';
import { readResults, resultsFile } from '../lib/runs/trialResults';
import { ROOT } from '../lib/util/root';
import { markdownTable } from '../lib/util/tables';

const DATA = 'flowers12';

test.each(Object.keys(EXPERIMENTS) as ExperimentName[])(
  "RESULTS.md holds the table of %s's published rows",
  experiment => {
    const rows = readResults(resultsFile(experiment, DATA));
    const [table] = experimentSection(experiment, DATA, rows).tables;
    expect(rows.length).toBeGreaterThan(0);
    expect(readFileSync(join(ROOT, 'experiments/RESULTS.md'), 'utf8')).toContain(markdownTable(table));
  },
);
