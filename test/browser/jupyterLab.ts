import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Browser, Locator, Page } from 'playwright-core';
import { DISPLAY_NAME } from '../../lib/jupyter/install/register';

const ROOT = resolve(__dirname, '../..');
const START_TIMEOUT_MS = 120_000;

/** JupyterLab as `npm run lab` starts it, but with a folder of its own to serve, and without the user's settings. */
export class JupyterLab {
  private url = '';

  private constructor(
    private readonly server: ChildProcess,
    private readonly token: string,
    readonly folder: string,
    private readonly settings: string,
  ) {}

  static async start(): Promise<JupyterLab> {
    const [folder, settings] = ['notebooks', 'settings'].map(name => mkdtempSync(join(tmpdir(), `edgevit-${name}-`)));
    const token = randomBytes(16).toString('hex');
    const args = [
      '--no-browser',
      '--allow-root',
      `--ServerApp.port=${randomInt(20_000, 60_000)}`, // or one near it that is free: it says which
      `--ServerApp.root_dir=${folder}`,
      '--LabApp.default_url=/lab',
      `--IdentityProvider.token=${token}`,
    ];
    const own = {
      JUPYTER_CONFIG_DIR: 'config',
      JUPYTER_RUNTIME_DIR: 'runtime',
      JUPYTERLAB_SETTINGS_DIR: 'lab',
      JUPYTERLAB_WORKSPACES_DIR: 'workspaces',
    };
    const env = {
      ...process.env,
      ...Object.fromEntries(Object.entries(own).map(([name, place]) => [name, join(settings, place)])),
    };
    const server = spawn(process.execPath, ['--import', 'tsx', 'lib/cli/main.ts', 'lab', ...args], {
      cwd: ROOT,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    for (const stream of [server.stdout, server.stderr]) stream.on('data', (text: Buffer) => (log += text));
    const lab = new JupyterLab(server, token, folder, settings);
    for (const deadline = Date.now() + START_TIMEOUT_MS; !(await lab.answers()); await sleep(200)) {
      if (server.exitCode === null && Date.now() < deadline) continue;
      await lab.stop();
      throw new Error(`JupyterLab did not start:\n${log}`);
    }
    return lab;
  }

  /** A notebook of the folder in a page of its own, its kernel ready. */
  async open(browser: Browser, name: string, theme: 'Light' | 'Dark' = 'Light'): Promise<NotebookPage> {
    const themes = join(this.settings, 'lab', '@jupyterlab', 'apputils-extension');
    mkdirSync(themes, { recursive: true });
    writeFileSync(join(themes, 'themes.jupyterlab-settings'), JSON.stringify({ theme: `JupyterLab ${theme}` }));
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    await page.goto(`${this.url}/lab/workspaces/${randomBytes(4).toString('hex')}/tree/${name}?token=${this.token}`);
    await page.locator('.jp-Toolbar-kernelName', { hasText: DISPLAY_NAME }).waitFor();
    const notebook = new NotebookPage(page);
    await notebook.idle();
    return notebook;
  }

  /** A notebook that did not exist before, made by the menu. */
  async make(browser: Browser): Promise<NotebookPage> {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    await page.goto(`${this.url}/lab/workspaces/${randomBytes(4).toString('hex')}?token=${this.token}`);
    await page.locator('.jp-Launcher').waitFor();
    await page.locator('.lm-MenuBar-item', { hasText: /^File$/ }).click();
    await page.locator('.lm-Menu-itemLabel', { hasText: /^New$/ }).click();
    await page.locator('.lm-Menu-itemLabel', { hasText: /^Notebook$/ }).click();
    const notebook = new NotebookPage(page);
    await page.locator('.jp-Notebook .jp-Cell').first().waitFor();
    return notebook;
  }

  async stop(): Promise<void> {
    if (this.server.exitCode === null) {
      this.server.kill('SIGTERM');
      await once(this.server, 'exit');
    }
    for (const folder of [this.folder, this.settings]) rmSync(folder, { recursive: true, force: true });
  }

  private async answers(): Promise<boolean> {
    const runtime = join(this.settings, 'runtime');
    const told = existsSync(runtime) && readdirSync(runtime).find(name => /^jpserver-.*\.json$/.test(name));
    if (!told) return false;
    this.url = `http://127.0.0.1:${JSON.parse(readFileSync(join(runtime, told), 'utf8')).port}`;
    return fetch(`${this.url}/api/kernelspecs?token=${this.token}`).then(
      ({ ok }) => ok,
      () => false, // not yet
    );
  }
}

/** What a person does to a notebook, and sees of it. */
export class NotebookPage {
  constructor(readonly page: Page) {}

  /** The cells, in order. */
  get cells(): Locator {
    return this.page.locator('.jp-Notebook .jp-Cell');
  }

  /** What the cell shows, by the MIME type of what is shown. */
  outputs(cell: number, mime?: string): Locator {
    return this.cells
      .nth(cell)
      .locator(`.jp-OutputArea-output${mime === undefined ? '' : `[data-mime-type="${mime}"]`}`);
  }

  /** Waits until no cell is running or waiting, and the kernel says so. */
  async idle(timeout = 120_000): Promise<void> {
    await this.page
      .locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
      .waitFor({ timeout, state: 'attached' });
    await this.page.locator('.jp-InputPrompt', { hasText: '[*]' }).first().waitFor({ timeout, state: 'detached' });
  }

  /** By the menu, as far as the first cell that fails. */
  async runAll(): Promise<void> {
    await this.page.locator('.lm-MenuBar-item', { hasText: /^Run$/ }).click();
    await this.page.locator('.lm-Menu-itemLabel', { hasText: /^Run All Cells$/ }).click();
    await this.idle();
  }

  async run(cell: number): Promise<void> {
    await this.start(cell);
    await this.idle();
  }

  /** Runs a cell without waiting for its end. */
  async start(cell: number): Promise<void> {
    await this.edit(cell);
    await this.page.keyboard.press('Control+Enter');
  }

  /** Puts the cursor at the end of a cell's code. */
  async edit(cell: number): Promise<void> {
    await this.cells.nth(cell).locator('.cm-content').click();
    await this.page.keyboard.press('Control+End');
  }

  text(cell: number): Promise<string | null> {
    return this.cells.nth(cell).locator('.cm-content').textContent();
  }

  /** `[1]:`, or `[ ]:` of a code cell that has not run. */
  prompts(): Promise<string[]> {
    return this.page.locator('.jp-CodeCell .jp-InputPrompt').allTextContents();
  }

  async press(button: 'interrupt' | 'restart'): Promise<void> {
    await this.page.locator(`.jp-NotebookPanel-toolbar [data-jp-item-name="${button}"] jp-button`).click();
    if (button === 'restart') await this.page.locator('.jp-Dialog .jp-mod-accept').click();
  }

  close(): Promise<void> {
    return this.page.close();
  }
}
