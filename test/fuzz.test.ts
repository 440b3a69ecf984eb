import { expect, test } from 'vitest';
import { fuzz } from './fuzz/fuzz';
import { TARGETS } from './fuzz/targets';

/** Ten thousand of each: `npm run fuzz -- pth`. */
const COUNT = 300;

test.each(Object.keys(TARGETS))(
  '%s: files with faults are read, or refused in a sentence, soon and in little memory',
  async name => {
    const { read, refused, faults } = await fuzz(TARGETS[name], { count: COUNT });
    expect(faults).toEqual([]);
    expect(read + refused).toBe(COUNT);
    expect(refused).toBeGreaterThan(COUNT / 4);
  },
);
