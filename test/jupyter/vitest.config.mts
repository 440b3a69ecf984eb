import { defineConfig } from 'vitest/config';

/** `npm run test:notebooks`: notebooks by our runner and by Jupyter's own tools, and the package that a folder without this checkout installs. */
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
