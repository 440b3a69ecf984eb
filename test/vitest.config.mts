import { defineConfig } from 'vitest/config';

/** They get the engine of those who have no other. */
const PURE_JS = ['test/pureJs*.test.ts'];
const EVERY = ['test/*.test.ts'];

// Each file in a process of its own (TensorFlow's addon can be loaded once per process); two at a time, as on CI.
export default defineConfig({
  test: {
    root: `${import.meta.dirname}/..`,
    projects: [
      { extends: true, test: { name: 'lab', include: EVERY, exclude: PURE_JS } },
      { extends: true, test: { name: 'pure JS', include: PURE_JS, env: { EDGEVIT_ENGINE: 'js' } } },
    ],
    setupFiles: [`${import.meta.dirname}/engine.ts`],
    globalSetup: `${import.meta.dirname}/setup.ts`,
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
