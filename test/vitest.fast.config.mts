import { defineConfig, mergeConfig } from 'vitest/config';
import base from './vitest.config.mjs';

/** What says most about an edit in the least time: no training, no kernel, no browser, no Python, no build. */
const FAST = [
  'contract',
  'count',
  'dataAugment',
  'documents',
  'experiments',
  'figures',
  'layout',
  'localProp',
  'models',
  'plots',
  'receptiveField',
  'results',
  'summary',
  'types',
  'words',
];

export default mergeConfig(
  base,
  defineConfig({
    test: { projects: [{ extends: true, test: { name: 'fast', include: FAST.map(name => `test/${name}.test.ts`) } }] },
  }),
);
