import { basename } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** They get the engine of those who have no other. */
const PURE_JS = ['test/pureJs*.test.ts'];
const EVERY = ['test/*.test.ts'];

/** What takes longest, the longest first: begun last, it would run beside nothing. */
const LONG =
  `setup crash contract replay sweep kernel report ablation bundle ops kernelProcess experiments latency parity kernelSession
  contractSettings rerun exactOps commandLine bench lab kernelDisplay cli`.split(/\s+/);

/** Long files, then the others as vitest has it: by how long they took here before, else larger ones first. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      const index = LONG.indexOf(basename(moduleId, '.test.ts'));
      return index === -1 ? LONG.length : index;
    };
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}

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
    sequence: { sequencer: LongestFirst },
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
