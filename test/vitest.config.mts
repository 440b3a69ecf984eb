import { defineConfig } from 'vitest/config';

// Each file in a process of its own (TensorFlow's addon can be loaded once per process); two at a time, as on CI.
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/..`,
    include: ['test/*.test.ts'],
    globalSetup: `${import.meta.dirname}/setup.ts`,
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
