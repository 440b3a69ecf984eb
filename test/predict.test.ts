import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openDataset } from '../lib/data/open';
import { consoleReporter } from '../lib/runs/console';
import { startTrial } from '../lib/runs/trial';
import { planTraining } from '../lib/train/plan';
import { ROOT } from '../lib/util/root';
import { noisy, scratch } from './imageFolders';
import { tinyRecipe } from './training';

const runs = mkdtempSync(join(tmpdir(), 'edgevit-predict-'));
afterAll(() => rmSync(runs, { recursive: true, force: true }));

const folder = scratch();

/** `npm run predict` as a process: its status and what it prints. */
function predict(...args: string[]) {
  const command = ['--import', 'tsx', join(ROOT, 'lib/cli/main.ts'), 'predict', ...args, `--runs=${runs}`];
  return spawnSync(process.execPath, command, { cwd: ROOT, encoding: 'utf8' });
}

it('tells of image files what the run told of them, writes attention, and refuses what is no image', async () => {
  for (const split of ['train', 'test'])
    for (const name of ['aster', 'iris'])
      for (const i of [1, 2]) folder.put(`${split}/${name}/${i}.jpg`, await noisy());
  const data = `folder:${folder.root}`;
  const dataOptions = { cacheDir: folder.cacheDir };
  const dataset = await openDataset(data, dataOptions);
  const run = await startTrial({
    plan: planTraining(
      tinyRecipe({ data, epochs: 1, batch: 2, augment: { centerCrop: 0.9, mean: [0.4, 0.5, 0.6] } }),
      dataset,
    ),
    recipeName: 'petals',
    about: 'a test',
    runs,
    name: 'flowers',
    data: dataOptions,
    reporter: consoleReporter({ write: () => true }),
    writeReport: async () => {},
  });
  const { top, probabilities } = run.predictions()!;
  const paths = dataset.test.names.map(
    name => [folder.root, join(folder.root, 'test')].map(base => join(base, name)).find(isThere)!,
  );

  const page = join(runs, 'attention.html');
  const { status, stdout, stderr } = predict('flowers', ...paths, '--top=2', '--json', `--attention=${page}`);
  expect(status, stderr).toBe(0);
  const told = JSON.parse(stdout) as { image: string; top: { label: number; name: string; probability: number }[] }[];
  expect(told.map(({ top }) => top.map(({ label }) => label))).toEqual(top.map(labels => labels.slice(0, 2)));
  for (const [i, { top }] of told.entries()) {
    expect(top[0]!.name).toBe(dataset.classes[top[0]!.label]);
    expect(top[0]!.probability).toBeCloseTo(probabilities[i]![0]!, 4); // run folders keep four digits
  }
  // Four blocks, seven heads, and the image itself, of each of four photographs.
  expect(readFileSync(page, 'utf8').match(/<img /g)).toHaveLength(4 * (7 + 1));

  const refused = predict('flowers', paths[0]!, join(ROOT, 'package.json'));
  expect(refused.status).toBe(2);
  expect(refused.stderr).toContain('package.json');
  expect(refused.stdout).toBe('');
});

function isThere(path: string): boolean {
  try {
    return readFileSync(path).length > 0;
  } catch {
    return false;
  }
}
