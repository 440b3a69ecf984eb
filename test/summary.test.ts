import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ARTICLE_TABLE } from '../lib/measure/articleTable';
import { summarise } from '../lib/measure/summary';
import { createModel, MODELS } from '../lib/model/registry';

test.each(['article', 'article-as-printed'])("%s gives the article's table, totals and sizes", name => {
  const summary = summarise(createModel(name, { numClasses: 103, size: 224 }), 1);
  const { rows, megabytes, total, trainable, nonTrainable } = ARTICLE_TABLE;
  expect(summary.rows.map(({ module: _, ...row }) => row)).toEqual(rows);
  expect(total).toBe(15_542_263);
  expect(summary).toMatchObject({
    total,
    trainable: 15_542_071,
    nonTrainable: 192,
    articleSplit: { trainable, nonTrainable },
  });
  for (const [part, size] of Object.entries(megabytes))
    expect(summary.megabytes[part as keyof typeof megabytes].toFixed(2)).toBe(size.toFixed(2));
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
  const run = (...args: string[]) =>
    spawnSync(process.execPath, ['node_modules/tsx/dist/cli.mjs', 'lib/cli/main.ts', 'summary', ...args], {
      cwd: join(__dirname, '..'),
      encoding: 'utf8',
    });
  const fine = run('edgevit-xxs', '--size=64x96', '--classes=12', '--ablation=noLocalAgg', '--json');
  expect(fine.status).toBe(0);
  expect(JSON.parse(fine.stdout)).toMatchObject({
    model: 'edgevit-xxs',
    inputSize: [64, 96],
    numClasses: 12,
    config: { localAgg: [false, false, false, false] },
  });
  const wrong = run('edgevit-xxs', '--size=100');
  expect(wrong.status).toBe(2);
  expect(
    wrong.stderr
      .trim()
      .split('\n')
      .filter(line => !line.startsWith('engine')),
  ).toHaveLength(1);
});
