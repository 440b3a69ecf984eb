import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { summarise } from '../lib/measure/summary';
import { createModel, MODELS } from '../lib/models';

/** The table that the article prints, row by row. */
const ARTICLE: [layer: string, input: number[], output: number[], params: number][] = [
  ['Conv2D-1', [1, 3, 224, 224], [1, 48, 56, 56], 2352],
  ['DownSampleLayer-1', [1, 3, 224, 224], [1, 48, 56, 56], 0],
  ['Conv2D-2', [1, 48, 56, 56], [1, 48, 56, 56], 480],
  ['PatchEmbed-1', [1, 48, 56, 56], [1, 48, 56, 56], 0],
  ['BatchNorm2D-1', [1, 48, 56, 56], [1, 48, 56, 56], 192],
  ['Conv2D-3', [1, 48, 56, 56], [1, 48, 56, 56], 2352],
  ['Conv2D-4', [1, 48, 56, 56], [1, 48, 56, 56], 480],
  ['BatchNorm2D-2', [1, 48, 56, 56], [1, 48, 56, 56], 192],
  ['Conv2D-5', [1, 48, 56, 56], [1, 48, 56, 56], 2352],
  ['LocalAgg-1', [1, 48, 56, 56], [1, 48, 56, 56], 0],
  ['Residual-1', [1, 48, 56, 56], [1, 48, 56, 56], 0],
  ['Linear-1', [1, 3136, 48], [1, 3136, 192], 9408],
  ['Linear-2', [1, 3136, 192], [1, 3136, 48], 9264],
  ['FFN-1', [1, 48, 56, 56], [1, 48, 56, 56], 0],
  ['Residual-2', [1, 48, 56, 56], [1, 48, 56, 56], 0],
  ['Conv2D-6', [1, 48, 56, 56], [1, 48, 56, 56], 480],
  ['PatchEmbed-2', [1, 48, 56, 56], [1, 48, 56, 56], 0],
  ['AvgPool2D-1', [1, 48, 56, 56], [1, 48, 14, 14], 0],
  ['Linear-3', [1, 196, 48], [1, 196, 144], 7056],
  ['Conv2DTranspose-1', [1, 48, 14, 14], [1, 48, 56, 56], 816],
  ['Linear-4', [1, 3136, 48], [1, 3136, 48], 2352],
  ['GlobalSparseAttn-1', [1, 48, 56, 56], [1, 48, 56, 56], 0],
  ['Residual-3', [1, 48, 56, 56], [1, 48, 56, 56], 0],
  ['Linear-5', [1, 150528], [1, 103], 15504487],
];

test.each(['article', 'article-as-printed'])("%s gives the article's table, totals and sizes", name => {
  const summary = summarise(createModel(name, { numClasses: 103, size: 224 }), 1);
  expect(summary.rows.map(({ layer, input, output, params }) => [layer, input, output, params])).toEqual(ARTICLE);
  expect(summary).toMatchObject({
    total: 15_542_263,
    trainable: 15_542_071,
    nonTrainable: 192,
    articleSplit: { trainable: 15_541_879, nonTrainable: 384 },
  });
  expect(Object.values(summary.megabytes).map(value => value.toFixed(2))).toEqual(['0.57', '27.85', '59.29', '87.71']);
});

describe.each(MODELS.filter(name => name !== 'article-as-printed'))('%s', name => {
  test('has a row for every parameter, and shapes of the batch', () => {
    const summary = summarise(createModel(name, { numClasses: 9, size: [64, 96] }), 5);
    expect(summary.rows.reduce((sum, row) => sum + row.params, 0)).toBe(summary.total);
    expect(summary.rows.every(row => row.input[0] === 5 && row.output[0] === 5)).toBe(true);
    expect(summary.rows.at(-1)!.output).toEqual([5, 9]);
    expect(new Set(summary.rows.map(row => row.layer)).size).toBe(summary.rows.length);
  });
});

test('the command prints JSON, and refuses what does not fit with one sentence and exit 2', () => {
  const run = (...args: string[]) => spawnSync(process.execPath, ['node_modules/tsx/dist/cli.mjs', 'experiments/cli.ts', 'summary', ...args], { cwd: join(__dirname, '..'), encoding: 'utf8' });
  const fine = run('edgevit-xxs', '--size=64x96', '--classes=12', '--ablation=noLocalAgg', '--json');
  expect(fine.status).toBe(0);
  expect(JSON.parse(fine.stdout)).toMatchObject({ model: 'edgevit-xxs', inputSize: [64, 96], numClasses: 12, config: { localAgg: [false, false, false, false] } });
  const wrong = run('edgevit-xxs', '--size=100');
  expect(wrong.status).toBe(2);
  expect(wrong.stderr.trim().split('\n').filter(line => !line.startsWith('engine'))).toHaveLength(1);
});
