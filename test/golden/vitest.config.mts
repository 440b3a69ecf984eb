import { defineConfig } from 'vitest/config';

/** `npm run test:golden`: the golden digests by several threads, instruction sets, compilers and versions of Node. At most 4 minutes on two cores, beside the addons' builds. */
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/golden/*.test.ts'],
    globalSetup: `${import.meta.dirname}/../setup.ts`,
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 900_000,
    hookTimeout: 900_000,
  },
});
