import { expect, test } from 'vitest';
import {
  allCombinations,
  describeCombination,
  findFactors,
  PLAIN_IMAGES,
  pairwiseCombinations,
  runCombination,
} from '../../lib/cli/support/combinations';
import { execute } from '../../lib/util/processes';
import { ROOT } from '../../lib/util/root';

const factors = await findFactors(line => console.log(line));
for (const reason of factors.skipped) console.log(`skipped: ${reason}`);

/** Without vectors of 8 and fused multiply-adds a training takes many times as long: one, every network and every kernel. */
const PORTABLE = '^(kernel|network)|^training portable$';

/** By the first compiler alone, as each addon takes minutes to be built. */
const combinations = pairwiseCombinations(
  allCombinations(factors).filter(({ isa, compiler }) => isa !== 'portable' || compiler === factors.compilers[0]),
  6,
);

test.each(combinations.map(each => [describeCombination(each), each] as const))('%s', async (_, combination) => {
  const { code, output } = await runCombination(combination, combination.isa === 'portable' ? PORTABLE : undefined);
  expect(code, output).toBe(0);
});

test('images are decoded to the same bytes without vector code', async () => {
  const { code, output } = await runCombination({ ...combinations[0]!, env: PLAIN_IMAGES }, '^host');
  expect(code, output).toBe(0);
});

test('a published row ends at its weights', async () => {
  const { code, output } = await execute(
    process.execPath,
    ['--import', 'tsx', 'lib/cli/main.ts', 'verify', '--results'],
    {
      cwd: ROOT,
    },
  );
  expect(code, output).toBe(0);
});
