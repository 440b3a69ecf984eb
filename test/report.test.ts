import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { confusionMatrix } from '../lib/charts/classes';
import { runCurves } from '../lib/charts/curves';
import { isCrowded } from '../lib/charts/embed';
import { toSvg } from '../lib/charts/svg';
import { reportedExperiments } from '../lib/cli/support/experiments';
import { type Findings, labReportFiles, writeLabReport } from '../lib/report/labReport';
import { mistakePictures, mistakesOf } from '../lib/report/mistakes';
import { writeReport } from '../lib/report/runReport';
import { runSections } from '../lib/report/runSections';
import { tradeoffSection } from '../lib/report/tradeoffSections';
import { consoleReporter } from '../lib/runs/console';
import { openRun, Run } from '../lib/runs/store';
import { startTrial } from '../lib/runs/trial';
import { createMeter } from '../lib/train/metrics';
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
  await writeLabReport(findings, join(folder, 'report'), { pdf: true });
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true }));

const charts = (): string[] => [
  ...new Set(readdirSync(files.charts).map(file => file.replace(/\.(svg|png|pdf|json)$/, ''))),
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
  expect(readdirSync(files.charts)).toHaveLength(4 * names.length);
  const again = labReportFiles(join(folder, 'again'));
  await writeLabReport(findings, join(folder, 'again'));
  for (const file of readdirSync(again.charts))
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

test('times of networks with another head than those that were trained are told to be that', () => {
  const beside = (classes: number) =>
    tradeoffSection(madeUpResults().variants, {
      ...MADE_UP_TRADEOFFS,
      size: [96, 96],
      models: MADE_UP_TRADEOFFS.models.map(model => ({ ...model, classes })),
    });
  expect(Object.keys(beside(1000).charts)).toContain('tradeoff-latency');
  expect(beside(1000).text.join()).toMatch(/networks for 1,000 classes, .* networks for 12\./);
  expect(beside(12).text.join()).not.toMatch(/networks for/);
});

test('a PDF is one page of the size of its chart, with its words as text, and no title', () => {
  const pdf = readFileSync(join(files.charts, 'lgl-differences.pdf'), 'latin1');
  expect(pdf).toMatch(/^%PDF-1\.\d/);
  expect(pdf.match(/\/Type \/Page\n/g)).toHaveLength(1);
  const [, width, height] = /<svg[^>]* width="([\d.]+)" height="([\d.]+)"/.exec(
    readFileSync(join(files.charts, 'lgl-differences.svg'), 'utf8'),
  )!;
  const [, , , right, bottom] = /\/MediaBox \[(\S+) (\S+) (\S+) (\S+)\]/.exec(pdf)!;
  expect(Number(right)).toBeCloseTo(Number(width), 0);
  expect(Number(bottom)).toBeLessThan(Number(height));
  expect(pdf).toContain('Inter');
});

test('tables are CSV, JSON and LaTeX too', () => {
  const rows = JSON.parse(readFileSync(join(files.data, 'lgl.json'), 'utf8')) as Record<string, string>[];
  expect(rows.map(({ variant }) => variant).sort()).toEqual([
    'full',
    'localAggOnly',
    'noAttention',
    'noLocalAgg',
    'noLocalProp',
  ]);
  const csv = readFileSync(join(files.data, 'lgl.csv'), 'utf8');
  expect(csv.split('\r\n')[1]).toContain(`${rows[0].variant},"${rows[0].params}"`);
  const tex = readFileSync(join(files.data, 'lgl.tex'), 'utf8');
  expect(tex).toMatch(/^\\begin\{tabular\}\{lrrrrrl\}/);
  expect(tex).toContain('top-1, \\%');
  expect(tex).toContain('$\\pm$');
});

test('tables hold what rows say', () => {
  const tables = readFileSync(files.tables, 'utf8');
  const rows = findings.results.lgl.filter(({ variant }) => variant === 'noLocalAgg');
  const mean = rows.reduce((sum, { top1 }) => sum + top1 / rows.length, 0);
  expect(tables).toMatch(new RegExp(`^\\| noLocalAgg \\| .* \\| 3 \\| ${(100 * mean).toFixed(1)} ± `, 'm'));
});

test('a report of nothing says how to get each part', async () => {
  const empty = labReportFiles(join(folder, 'empty'));
  await writeLabReport({ ...findings, results: {}, tradeoffs: undefined, runs: [] }, join(folder, 'empty'));
  const page = readFileSync(empty.page, 'utf8');
  for (const name of ['lgl', 'delegates', 'attention', 'sample-rates', 'variants'])
    expect(page).toContain(`npm run experiment -- ${name} --data=folder:`);
  for (const command of ['npm run train', 'npm run experiment -- tradeoffs']) expect(page).toContain(command);
  expect(readdirSync(empty.charts).every(file => file.startsWith('reported-'))).toBe(true);
});

test('of many runs the page shows some in detail, and says so', async () => {
  const many = Array.from({ length: 12 }, (_, i) => new Run(run.folder, { ...run.record, name: `run-${i}` }));
  const [together, ...each] = await runSections(many);
  expect(together.tables[0].rows).toHaveLength(12);
  const { values } = together.charts['runs-top1'].data as unknown as { values: { run: string }[] };
  expect(new Set(values.map(value => value.run)).size).toBe(10);
  expect(each).toHaveLength(2);
  expect(together.text.join()).toMatch(/Of 12 runs .* the first 2/);
});

test('of long names the ends are seen that tell them apart, and a curve of one epoch', async () => {
  const [row] = run.epochs();
  const name = (seed: number): string =>
    `a-run-of-a-name-that-no-legend-has-room-for-of-some-settings-and-seed-${seed}`;
  const curves = runCurves(
    [1, 2].map(seed => ({ name: name(seed), epochs: [row] })),
    'top1',
    'Top-1',
  );
  const svg = await toSvg(curves);
  for (const seed of [1, 2]) expect(svg).toMatch(new RegExp(`>a-run-of[^<]*…[^<]*seed-${seed}<`));
  expect(svg.match(/aria-roledescription="point"|mark-symbol role-mark/g)).not.toBeNull();
});

test('a matrix of many classes keeps a width at which its labels can be read, and long names are cut', () => {
  const classes = (count: number) => {
    const meter = createMeter(
      Array.from({ length: count }, (_, i) => `class ${i} ${'of a long name '.repeat(9)}`),
      count,
    );
    for (let label = 0; label < count; label++)
      meter.add(
        Float32Array.from({ length: count }, (_, i) => Number(i === label)),
        Int32Array.of(label),
      );
    return confusionMatrix(meter.result());
  };
  expect([12, 200].map(count => isCrowded(classes(count)))).toEqual([false, true]);
  const all = JSON.stringify(classes(200));
  expect(all).toMatch(/"labelLimit":\d+/);
  expect(all).toContain('labelExpr');
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

test('a report writes nowhere that a run folder from elsewhere names', async () => {
  const [images, cacheDir] = ['images', 'cache'].map(name => join(folder, name));
  for (const file of ['train/a/1.png', 'train/b/1.png', 'test/a/1.png', 'test/b/1.png']) {
    mkdirSync(join(images, file, '..'), { recursive: true });
    writeFileSync(join(images, file), 'no image');
  }
  const other = openRun(folder, 'a.run');
  other.record = { ...other.record, recipe: tinyRecipe({ data: `folder:${images}` }), dataOptions: { cacheDir } };
  expect((await mistakePictures(other)).pictures).toEqual([]);
  expect(existsSync(cacheDir)).toBe(false);
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

  const WIDE = { width: 1280, colorScheme: 'light' } as const;
  const NARROW = { width: 400, colorScheme: 'dark' } as const;
  const drawn = new Map<typeof WIDE | typeof NARROW, ReturnType<typeof open>>();

  /** The page with all its charts, once for the tests that look at it: drawing them takes seconds. */
  function openDrawn(options: typeof WIDE | typeof NARROW): ReturnType<typeof open> {
    const draw = async () => {
      const opened = await open(options);
      await opened.page.waitForFunction(
        `document.querySelectorAll('.vega-embed svg.marks').length === ${charts().length}`,
      );
      return opened;
    };
    if (!drawn.has(options)) drawn.set(options, draw());
    return drawn.get(options)!;
  }

  test.each([WIDE, NARROW])(
    'draws all charts with size, asks for nothing and fits: $width px, $colorScheme',
    async options => {
      const { page, complaints } = await openDrawn(options);
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
    },
  );

  test('shows the drawings where scripts are off', async () => {
    const { page, complaints } = await open({ width: 1280, javaScriptEnabled: false });
    expect(await page.locator('.chart > svg').count()).toBe(charts().length);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('sorts a table by the column whose head is clicked, and folds a section', async () => {
    const { page } = await openDrawn(WIDE);
    const head = page.locator('#lgl th', { hasText: 'MACs' });
    const cells = (): Promise<string[]> => page.locator('#lgl tr td:nth-child(3)').allTextContents();
    await head.click();
    const down = await cells();
    await head.click();
    expect(await cells()).toEqual([...down].reverse());
    expect(down.map(parseFloat)).toEqual([...down].map(parseFloat).sort((a, b) => b - a));
    expect(await page.locator('#lgl thead tr').count()).toBe(1); // which paper repeats on each sheet
    for (const isVisible of [false, true]) {
      await page.locator('#lgl > details > summary').click();
      expect(await page.locator('#lgl table').isVisible()).toBe(isVisible);
    }
  });

  test('has menus that can be read in the dark', async () => {
    const { page } = await openDrawn(NARROW);
    const [text, ground] = await page.evaluate<string[]>(
      "(() => { const menu = document.querySelector('.vega-embed .vega-actions'); return [getComputedStyle(menu.querySelector('a')).color, getComputedStyle(menu).backgroundColor]; })()",
    );
    const light = (color: string): number => Math.max(...color.match(/\d+/g)!.slice(0, 3).map(Number));
    expect(light(text) - light(ground)).toBeGreaterThan(150);
  });

  test('tells a mark when it is pointed at', async () => {
    const { page } = await openDrawn(WIDE);
    const mark = page.locator('#tradeoff-macs .vega-embed .mark-symbol.role-mark path').first();
    await mark.hover();
    await page.locator('#vg-tooltip-element', { hasText: 'parameters (millions)' }).waitFor();
  });
});
