import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { reportedExperiments } from '../lib/cli/support/experiments';
import { type Findings, labReportFiles, writeLabReport } from '../lib/report/labReport';
import { mistakePictures, mistakesOf } from '../lib/report/mistakes';
import { writeReport } from '../lib/report/runReport';
import { tradeoffSection } from '../lib/report/tradeoffSections';
import { consoleReporter } from '../lib/runs/console';
import { openRun, type Run } from '../lib/runs/store';
import { startTrial } from '../lib/runs/trial';
import { UserError } from '../lib/util/errors';
import { launchChromium } from './browser/chromium';
import { MADE_UP_TRADEOFFS, madeUpResults } from './reports';
import { tinyPlan, tinyRecipe } from './training';

const folder = mkdtempSync(join(tmpdir(), 'report-'));
const files = labReportFiles(join(folder, 'report'));
let run: Run;
let findings: Findings;

beforeAll(async () => {
  run = await startTrial({
    plan: tinyPlan(),
    recipeName: 'petals',
    about: 'a test',
    runs: folder,
    name: 'a.run',
    reporter: consoleReporter({ write: () => true }),
    writeReport,
  });
  findings = {
    data: 'flowers12',
    experiments: await reportedExperiments(),
    results: madeUpResults(),
    tradeoffs: { ...MADE_UP_TRADEOFFS, size: [96, 96] },
    runs: [run],
  };
  await writeLabReport(findings, join(folder, 'report'));
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true }));

const charts = (): string[] => [
  ...new Set(readdirSync(files.charts).map(file => file.replace(/\.(svg|png|json)$/, ''))),
];

test('a report has each chart as drawing, image and specification, and the same bytes each time', async () => {
  const names = charts();
  for (const part of [
    'tradeoff-macs',
    'tradeoff-params',
    'tradeoff-latency',
    'lgl-differences',
    'delegates-differences',
    'attention-cost',
    'sample-rates-curve',
    'runs-top1',
    'run-a.run-confusion',
    'reported-macs',
  ])
    expect(names).toContain(part);
  expect(readdirSync(files.charts)).toHaveLength(3 * names.length);
  const again = labReportFiles(join(folder, 'again'));
  await writeLabReport(findings, join(folder, 'again'));
  for (const file of readdirSync(files.charts))
    expect(readFileSync(join(again.charts, file)).equals(readFileSync(join(files.charts, file))), file).toBe(true);
  for (const key of ['page', 'tables'] as const)
    expect(readFileSync(again[key], 'utf8')).toBe(readFileSync(files[key], 'utf8'));
});

test('times at another size than networks were trained at stand beside no accuracy', () => {
  const { tables, charts, text } = tradeoffSection(madeUpResults().variants, MADE_UP_TRADEOFFS);
  expect(Object.keys(charts)).not.toContain('tradeoff-latency');
  expect(tables.map(({ columns }) => 'top1' in columns && 'milliseconds' in columns)).toEqual([false, false]);
  expect(text.join()).toContain('--size=96');
});

test('tables hold what rows say', () => {
  const tables = readFileSync(files.tables, 'utf8');
  const rows = findings.results.lgl!.filter(({ variant }) => variant === 'noLocalAgg');
  const mean = rows.reduce((sum, { top1 }) => sum + top1 / rows.length, 0);
  expect(tables).toMatch(new RegExp(`^\\| noLocalAgg \\| .* \\| 3 \\| ${(100 * mean).toFixed(1)} ± `, 'm'));
});

test('a report of nothing says how to get each part', async () => {
  const empty = labReportFiles(join(folder, 'empty'));
  await writeLabReport({ ...findings, results: {}, tradeoffs: undefined, runs: [] }, join(folder, 'empty'));
  const page = readFileSync(empty.page, 'utf8');
  for (const name of ['lgl', 'delegates', 'attention', 'sample-rates', 'variants'])
    expect(page).toContain(`npm run experiment -- ${name} --data=folder:datasets/flowers12`);
  for (const command of ['npm run train', 'npm run experiment -- tradeoffs']) expect(page).toContain(command);
  expect(readdirSync(empty.charts).every(file => file.startsWith('reported-'))).toBe(true);
});

describe('mistakes', () => {
  test('are told surest first', () => {
    const said = {
      labels: [0, 1, 2, 1],
      top: [
        [1, 0],
        [1, 2],
        [0, 2],
        [2, 1],
      ],
      probabilities: [
        [0.5, 0.3],
        [0.9, 0.1],
        [0.8, 0.1],
        [0.8, 0.2],
      ],
    };
    expect(mistakesOf(said).map(({ index, label, predicted }) => [index, label, predicted])).toEqual([
      [2, 2, 0],
      [3, 1, 2],
      [0, 0, 1],
    ]);
  });

  test('have images while the dataset is what it was, and otherwise the reason why not', async () => {
    const wrong = mistakesOf(run.predictions()!).length;
    expect(wrong).toBeGreaterThan(0);
    expect((await mistakePictures(run)).pictures).toHaveLength(Math.min(24, wrong));
    for (const data of ['folder:nowhere', 'petals:seed=5,classes=3,train=8,test=5,size=32']) {
      const other = openRun(folder, 'a.run');
      other.record = { ...other.record, recipe: tinyRecipe({ data }) };
      const { pictures, text } = await mistakePictures(other);
      expect(pictures).toEqual([]);
      expect(text[0]).toContain(data);
    }
  });
});

describe('the page in Chromium', () => {
  let browser: Browser | undefined;
  let missing = '';
  beforeAll(async () => {
    try {
      browser = await launchChromium();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      missing = error.message;
    }
  });
  beforeEach(context => {
    if (!browser) context.skip(missing);
  });
  afterAll(async () => browser?.close());

  /** Opens the page, and waits until it is drawn; what it asked for beside itself and complained of. */
  async function open(options: { width: number; colorScheme?: 'light' | 'dark'; javaScriptEnabled?: boolean }) {
    const { width, ...rest } = options;
    const page = await browser!.newPage({ viewport: { width, height: 900 }, ...rest });
    page.setDefaultTimeout(100_000); // a machine may be busy
    const url = pathToFileURL(files.page).href;
    const complaints: string[] = [];
    page.on('console', message => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
    page.on('pageerror', error => complaints.push(error.message));
    page.on(
      'request',
      request => request.url() !== url && !request.url().startsWith('data:') && complaints.push(request.url()),
    );
    await page.goto(url);
    return { page, complaints };
  }

  test.each([
    { width: 1280, colorScheme: 'light' },
    { width: 400, colorScheme: 'dark' },
  ] as const)('draws all charts with size, asks for nothing and fits: $width px, $colorScheme', async options => {
    const { page, complaints } = await open(options);
    await page.waitForFunction(`document.querySelectorAll('.vega-embed svg.marks').length === ${charts().length}`);
    const boxes = await Promise.all(
      (await page.locator('.vega-embed svg.marks').all()).map(chart => chart.boundingBox()),
    );
    for (const box of boxes) {
      expect(box!.width).toBeGreaterThan(200);
      expect(box!.width).toBeLessThanOrEqual(options.width);
      expect(box!.height).toBeGreaterThan(50);
    }
    const [ink, text] = await page.evaluate<string[]>(
      "[getComputedStyle(document.querySelector('.vega-embed .role-axis text')).fill, getComputedStyle(document.body).color]",
    );
    expect(ink).toBe(text); // which the theme decides
    expect(
      await page.evaluate("[...document.querySelectorAll('.images img')].every(image => image.naturalWidth > 0)"),
    ).toBe(true);
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(options.width);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('shows the drawings where scripts are off', async () => {
    const { page, complaints } = await open({ width: 1280, javaScriptEnabled: false });
    expect(await page.locator('.chart > svg').count()).toBe(charts().length);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('tells a mark when it is pointed at', async () => {
    const { page } = await open({ width: 1280 });
    const mark = page.locator('#tradeoff-macs .vega-embed .mark-symbol.role-mark path').first();
    await mark.hover();
    await page.locator('#vg-tooltip-element', { hasText: 'parameters (millions)' }).waitFor();
    await page.close();
  });
});
