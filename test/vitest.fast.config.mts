import { defineConfig } from 'vitest/config';
import base from './vitest.config.mjs';

/** What says most about an edit in the least time: no training, no kernel, no browser, no Python, no build. */
const FAST = [
  'checkpoint',
  'costs',
  'count',
  'dataAugment',
  'dataDecode',
  'defaults',
  'fused',
  'layout',
  'localProp',
  'models',
  'nativeOps',
  'ops',
  'optim',
  'plots',
  'processors',
  'receptiveField',
  'recipe',
  'trace',
  'words',
];

// Not merged with the base, which would run its projects as well.
export default defineConfig({
  test: {
    ...base.test,
    projects: [{ extends: true, test: { name: 'fast', include: FAST.map(name => `test/${name}.test.ts`) } }],
  },
});
