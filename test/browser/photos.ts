import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSource } from '../../lib/cli/support/source';
import { serve } from '../../lib/demo/serve';
import { writeSite } from '../../lib/demo/site';
import { openEngine } from '../../lib/engine/open';
import { compiledPredictor, readImage } from '../../lib/runs/predictor';
import { launchChromium } from './chromium';
import { DemoPage } from './demoPage';

/**
 * `npm run test:demo -- RUN FOLDER`: the demo of a trained run in Chromium, on the photographs FOLDER/CLASS/FILE, each decoded by the browser: of
 * how many its first class is that of `npm run predict`, which is to be all but two of 240. Exit 1 where it is not. Two minutes.
 */
const ALLOWED = 2 / 240;

async function main([name = '', root = '']: string[]): Promise<void> {
  await openEngine({ announce: true });
  const source = await openSource(name);
  const predictor = compiledPredictor(source);
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-demo-'));
  const browser = await launchChromium();
  try {
    await writeSite(source, folder);
    const { url, close } = await serve(folder);
    const demo = await DemoPage.open(browser, url);
    await demo.ready();
    const paths = readdirSync(root).flatMap(label =>
      readdirSync(join(root, label)).map(file => join(root, label, file)),
    );
    let [same, right, worst] = [0, 0, 0];
    for (const [i, path] of paths.entries()) {
      const [expected] = await predictor.predict(await readImage(path, source));
      const [first] = await demo.classify(`${i}.image`, readFileSync(path));
      same += Number(first!.name === expected!.name);
      right += Number(first!.name === path.split('/').at(-2));
      worst = Math.max(
        worst,
        first!.name === expected!.name ? Math.abs(first!.probability - expected!.probability) : 0,
      );
    }
    close();
    console.log(
      `${same} of ${paths.length} as \`npm run predict\`, whose first probability is met within ${worst.toFixed(3)}; ${right} right`,
    );
    if (paths.length - same > ALLOWED * paths.length) process.exitCode = 1;
  } finally {
    await browser.close();
    predictor.dispose();
    rmSync(folder, { recursive: true, force: true });
  }
}

void main(process.argv.slice(2));
