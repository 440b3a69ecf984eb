import { defineConfig } from 'vitest/config';

/** `npm run test:notebooks`: Jupyter's own tools, from Python, on our kernel and our notebooks. */
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/jupyter/*.test.ts'],
    globalSetup: `${import.meta.dirname}/../setup.ts`,
    setupFiles: [`${import.meta.dirname}/../engine.ts`],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
