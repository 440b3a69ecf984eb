import type { Browser, Page } from 'playwright-core';

/** What a person does on the demo's page, and sees of it. */
export class DemoPage {
  /** What the page's console called an error, and addresses that it asked for. */
  readonly errors: string[] = [];
  readonly requests: string[] = [];

  private constructor(readonly page: Page) {
    page.on('console', message => message.type() === 'error' && this.errors.push(message.text()));
    page.on('pageerror', error => this.errors.push(error.message));
    page.on('request', request => this.requests.push(request.url()));
  }

  static async open(browser: Browser, url: string): Promise<DemoPage> {
    const demo = new DemoPage(await browser.newPage());
    await demo.page.goto(url);
    return demo;
  }

  status(): Promise<string | null> {
    return this.page.locator('#status').textContent();
  }

  async ready(): Promise<void> {
    await this.page.locator('#photo:enabled').waitFor();
  }

  /** The likeliest classes with their probabilities, once it has told of the file. */
  async classify(name: string, buffer: Buffer): Promise<{ name: string; probability: number }[]> {
    await this.page.locator('#photo').setInputFiles({ name, mimeType: '', buffer });
    await this.page.locator('#status', { hasText: `${name}: ` }).waitFor();
    return this.page.locator('#top li').evaluateAll(items =>
      items.map(item => ({
        name: item.querySelector('.class')!.textContent!,
        probability: Number(item.getAttribute('data-probability')),
      })),
    );
  }

  /** RGB of each map of attention. */
  maps(): Promise<number[][]> {
    return this.page.locator('#maps canvas').evaluateAll(canvases =>
      (canvases as unknown as { width: number; height: number; getContext(kind: '2d'): any }[]).map(canvas => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return [...data].filter((_, i) => i % 4 !== 3);
      }),
    );
  }
}
