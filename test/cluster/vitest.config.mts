import { defineConfig } from 'vitest/config';

/** `npm run test:cluster`: sweeps on a real Slurm and a real Redis, where these are installed. About 3 minutes on two idle cores. */
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/../..`,
    include: ['test/cluster/*.test.ts'],
    setupFiles: [`${import.meta.dirname}/../engine.ts`],
    globalSetup: [`${import.meta.dirname}/../setup.ts`, `${import.meta.dirname}/place.ts`],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
