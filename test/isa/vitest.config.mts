import { defineConfig } from 'vitest/config';

/** `npm run test:masked`: a subset of everything as lesser processors would run it, each at most 2 minutes. */
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/isa/*.test.ts'],
    globalSetup: `${import.meta.dirname}/../setup.ts`,
    pool: 'forks',
    maxWorkers: 1,
  },
});
