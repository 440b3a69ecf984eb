import { expect, test } from 'vitest';
import { ARTICLE_TABLE, compareRows } from '../lib/measure/articleTable';
import { edgeViTCosts, PARTS, shareOf } from '../lib/measure/costs';
import { countConfig, countPart, totalCount } from '../lib/measure/count';
import { summarise } from '../lib/measure/summary';
import { globalSparseAttn, lglBlock, localAgg } from '../lib/model/blocks';
import { VARIANTS } from '../lib/model/config';
import { stageBlocks } from '../lib/model/edgevit';
import { conv2d } from '../lib/model/layers';
import { definePart } from '../lib/model/module';
import { createModel } from '../lib/model/registry';

test.each(Object.keys(VARIANTS))('the costs of %s by stage and part add up', name => {
  const counts = countConfig(createModel(name, { numClasses: 10, size: 64 }));
  const costs = edgeViTCosts(counts);
  const { params, macs } = totalCount(counts);
  expect(costs.reduce((sum, cost) => sum + cost.params, 0)).toBe(params);
  expect(costs.reduce((sum, cost) => sum + cost.macs, 0)).toBe(macs);
  expect(PARTS.reduce((sum, part) => sum + shareOf(costs, counts, 'macs', cost => cost.part === part), 0)).toBeCloseTo(
    1,
    12,
  );
  expect(costs.filter(({ part }) => part === 'LocalAgg').map(({ stage }) => stage)).toEqual([1, 2, 3]);
  expect(costs.filter(({ part }) => part === 'LocalProp').map(({ stage }) => stage)).toEqual([1, 2, 3]);
});

test('a block counted by itself is the block of its network', () => {
  const counts = countConfig(createModel('edgevit-xs', { numClasses: 10, size: [64, 96] }));
  const [block] = stageBlocks(VARIANTS['edgevit-xs'])[1];
  const shape = [8, 12, block.dim] as const;
  expect(
    totalCount(
      countPart(
        definePart(scope => lglBlock(scope, block)),
        shape,
      ),
    ),
  ).toEqual(totalCount(counts, 'blocks2.0'));
  expect(
    totalCount(
      countPart(
        definePart(scope => localAgg(scope, block)),
        shape,
      ),
    ),
  ).toEqual(totalCount(counts, 'blocks2.0.LocalAgg'));
  expect(
    totalCount(
      countPart(
        definePart(scope => globalSparseAttn(scope, block)),
        shape,
      ),
    ),
  ).toEqual(totalCount(counts, 'blocks2.0.SelfAttn.attn'));
});

test('a single layer counts too, though it has no name', () => {
  expect(
    totalCount(
      countPart(
        definePart(scope => conv2d(scope, 3, 4, 5)),
        [6, 7, 3],
      ),
    ),
  ).toEqual({ params: 3 * 4 * 25 + 4, macs: 3 * 4 * 25 * 6 * 7, normOps: 0 });
});

test("our model's rows are the article's, and a row that differs is told", () => {
  const summary = summarise(createModel('article', { numClasses: 103, size: 224 }), 1);
  expect(compareRows(ARTICLE_TABLE, summary).map(({ agrees }) => agrees)).toEqual(ARTICLE_TABLE.rows.map(() => true));
  expect(summary).toMatchObject({
    total: ARTICLE_TABLE.total,
    articleSplit: { trainable: ARTICLE_TABLE.trainable, nonTrainable: ARTICLE_TABLE.nonTrainable },
  });

  const other = {
    ...summary,
    rows: summary.rows.slice(0, -1).map((row, i) => (i === 2 ? { ...row, params: 1 } : row)),
  };
  const differing = compareRows(ARTICLE_TABLE, other).flatMap(({ agrees }, i) => (agrees ? [] : [i]));
  expect(differing).toEqual([2, ARTICLE_TABLE.rows.length - 1]);
});
