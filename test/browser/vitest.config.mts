import { defineConfig } from 'vitest/config';

/** `npm run test:browser`: what only a real browser shows. */
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/browser/*.test.ts'],
    globalSetup: `${import.meta.dirname}/../setup.ts`,
    setupFiles: [`${import.meta.dirname}/../engine.ts`],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 300_000,
    hookTimeout: 600_000,
  },
});
