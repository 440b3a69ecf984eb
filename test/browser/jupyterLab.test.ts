import { join, resolve } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { pythonEnvironment } from '../../lib/jupyter/install/python';
import { DISPLAY_NAME, KERNEL_NAME } from '../../lib/jupyter/install/register';
import { type CodeCell, type Notebook, readNotebook, writeNotebook } from '../../lib/jupyter/notebook/notebook';
import { UserError } from '../../lib/util/errors';
import { launchChromium } from './chromium';
import { JupyterLab } from './jupyterLab';

// Notebooks as a person uses them: the lab's JupyterLab in a real browser.

const ROOT = resolve(__dirname, '../..');
const ERROR = 'application/vnd.jupyter.stderr'; // JupyterLab's for tracebacks too
const TEXT = 'text/plain';

let lab: JupyterLab | undefined;
let browser: Browser | undefined;
let reason = '';
beforeAll(async () => {
  try {
    browser = await launchChromium();
    await pythonEnvironment(join(ROOT, '.venv'), undefined, line => console.log(line));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    reason = error.message;
    return;
  }
  lab = await JupyterLab.start();
});
beforeEach(context => {
  if (!lab) context.skip(reason);
});
afterAll(async () => {
  await browser?.close();
  await lab?.stop();
});

function save(name: string, sources: readonly string[]): void {
  const cells = sources.map(
    (source, i): CodeCell => ({
      cell_type: 'code',
      id: `c${i}`,
      metadata: {},
      source,
      outputs: [],
      execution_count: null,
    }),
  );
  const notebook: Notebook = {
    nbformat: 4,
    nbformat_minor: 5,
    metadata: { kernelspec: { name: KERNEL_NAME, display_name: '', language: 'typescript' } },
    cells,
  };
  writeNotebook(join(lab!.folder, name), notebook);
}

test.each(['Light', 'Dark'] as const)(
  'a notebook of the project runs, and each of its charts is drawn (%s)',
  async theme => {
    const notebook = readNotebook(join(ROOT, 'notebooks', '04-local-propagation.ipynb'));
    const cells = notebook.cells.map(cell =>
      // It lies outside of the project here, so that its imports begin at the root.
      cell.cell_type === 'code'
        ? { ...cell, source: cell.source.replaceAll("'./lib/", `'${ROOT}/lib/`), outputs: [], execution_count: null }
        : cell,
    );
    writeNotebook(join(lab!.folder, `${theme}.ipynb`), { ...notebook, cells });
    const page = await lab!.open(browser!, `${theme}.ipynb`, theme);
    await page.runAll();

    const code = cells.flatMap((cell, i) => (cell.cell_type === 'code' ? [{ i, source: cell.source }] : []));
    expect(await page.prompts()).toEqual(code.map((_, count) => `[${count + 1}]:`));
    expect(await page.page.locator(`[data-mime-type="${ERROR}"]`).count()).toBe(0);
    for (const { i, source } of code.filter(({ source }) => /\bshow\(/.test(source))) {
      const drawing = page.cells.nth(i).locator('.vega-embed :is(canvas, svg.marks)');
      await drawing.waitFor();
      const box = (await drawing.boundingBox())!;
      expect(Math.min(box.width, box.height), source).toBeGreaterThan(80);
      expect(box.width, source).toBeLessThan((await page.cells.nth(i).boundingBox())!.width);
    }
    for (const { i } of code.filter(({ source }) => source.includes('showTable(')))
      expect(await page.outputs(i, 'text/html').locator('table tr').count()).toBeGreaterThan(1);
    await page.close();
  },
);

test('an error shows its place, the run ends there, and what was set is kept', async () => {
  save('errors.ipynb', [
    'const petals = 5;\n\nfunction pick(n: number): never {\n  throw new RangeError(`no petal ${n}`);\n}\npick(petals)',
    'petals + 1',
    'const wrong: string = petals;',
  ]);
  const page = await lab!.open(browser!, 'errors.ipynb');
  await page.runAll();
  expect(await page.outputs(0, ERROR).textContent()).toMatch(
    /RangeError: no petal 5\n\s+at pick \(cell\[1\]:4:9\)[\s\S]*> 4 \| {3}throw/,
  );
  expect(await page.prompts()).toEqual(['[1]:', '[ ]:', '[ ]:']);
  await page.run(1);
  expect(await page.outputs(1, TEXT).textContent()).toBe('6');
  await page.run(2);
  expect(await page.outputs(2, ERROR).textContent()).toMatch(/cell\[3\]:1:7 TS2322/);
  await page.close();
});

test('a busy cell is interrupted, and the state is kept; after a restart it is gone', async () => {
  save('interrupts.ipynb', ['let steps = 0;', 'console.log("begun");\nfor (;;) steps++;', 'steps > 0', 'steps']);
  const page = await lab!.open(browser!, 'interrupts.ipynb');
  await page.run(0);
  await page.start(1);
  await page.outputs(1, 'application/vnd.jupyter.stdout').waitFor();
  await page.press('interrupt');
  await page.idle();
  expect(await page.outputs(1, ERROR).textContent()).toContain('Interrupted');
  await page.run(2);
  expect(await page.outputs(2, TEXT).textContent()).toBe('true');

  await page.press('restart');
  await page.idle();
  await page.run(3);
  expect(await page.outputs(3, ERROR).textContent()).toContain("Cannot find name 'steps'");
  expect(await page.prompts()).toContain('[1]:');
  await page.close();
});

test('a new notebook begins in TypeScript, and asks nothing', async () => {
  const page = await lab!.make(browser!);
  await page.page.locator('.jp-Toolbar-kernelName', { hasText: DISPLAY_NAME }).waitFor();
  await page.idle();
  expect(await page.page.locator('.jp-Dialog').count()).toBe(0);
  const launcher = page.page.locator('.jp-LauncherCard'); // the other way to a notebook
  expect(await launcher.first().textContent()).toContain(DISPLAY_NAME);
  await page.edit(0);
  await page.page.keyboard.type('const petals: number = 5; petals');
  await page.run(0);
  expect(await page.outputs(0, TEXT).textContent()).toBe('5');
  await page.close();
});

test('a cell asks the person for input', async () => {
  save('input.ipynb', ["prompt('Your name?')"]);
  const page = await lab!.open(browser!, 'input.ipynb');
  await page.start(0);
  const box = page.page.locator('.jp-Stdin-input');
  await box.fill('Ada');
  await box.press('Enter');
  await page.idle();
  expect(await page.outputs(0, TEXT).last().textContent()).toBe("'Ada'");
  await page.close();
});

test('names are completed, and looked up', async () => {
  save('editor.ipynb', ['const flower = { petals: 5, pistils: 1 };', 'flower.pe']);
  const page = await lab!.open(browser!, 'editor.ipynb');
  await page.run(0);
  await page.edit(1);
  await page.page.keyboard.press('Tab');
  await page.page.locator('.jp-Completer-item', { hasText: 'petals' }).waitFor();
  expect(await page.page.locator('.jp-Completer-item').count()).toBe(1); // `pistils` does not fit
  await page.page.keyboard.press('Enter');
  await expect.poll(() => page.text(1)).toBe('flower.petals');
  await page.page.keyboard.press('Shift+Tab');
  const tooltip = page.page.locator('.jp-Tooltip');
  await tooltip.waitFor();
  expect(await tooltip.textContent()).toContain('petals: number');
  await page.close();
});
