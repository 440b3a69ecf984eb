import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cruise, type ICruiseOptions, type ICruiseResult } from 'dependency-cruiser';
import { expect, onTestFinished, test } from 'vitest';
import { ROOT } from '../lib/util/root';

const { options, ...ruleSet } = createRequire(__filename)('../.dependency-cruiser.cjs');

/** What breaks the rule of the house among these files, `FILE → FILE: RULE`. */
async function violations(baseDir: string, ...folders: string[]): Promise<string[]> {
  const { output } = await cruise(folders, { ...options, ruleSet, baseDir, validate: true } satisfies ICruiseOptions);
  const { modules, summary } = output as ICruiseResult;
  expect(modules.length).toBeGreaterThan(0);
  return summary.violations.map(({ from, to, rule }) => `${from} → ${to}: ${rule.name}`);
}

test('imports run downwards, without cycles, and what runs in a browser needs no Node', async () => {
  expect(await violations(ROOT, 'lib', 'experiments')).toEqual([]);
});

test('the rule finds what breaks it', async () => {
  const root = mkdtempSync(join(tmpdir(), 'boundaries-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  const files = {
    'tsconfig.json': '{}',
    'lib/util/upwards.ts': "import type { T } from '../cli/type';\nexport type U = T;",
    'lib/cli/type.ts': "export type T = 1;\nvoid import('../../experiments/question');",
    'lib/model/node.ts': "import { readFileSync } from 'node:fs';\nexport const read = readFileSync;",
    'lib/data/one.ts': "import { two } from './two';\nexport const one: unknown = () => two;",
    'lib/data/two.ts': "import { one } from './one';\nexport const two: unknown = () => one;",
    'lib/attic/junk.ts': 'export {};',
    'lib/cli/junk.ts': "import '../attic/junk';",
    'experiments/question.ts': 'export {};',
  };
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  expect((await violations(root, 'lib', 'experiments')).sort()).toEqual([
    'lib/cli/junk.ts → lib/attic/junk.ts: known-rooms',
    'lib/cli/type.ts → experiments/question.ts: lib-without-experiments',
    'lib/data/one.ts → lib/data/two.ts: no-cycles',
    'lib/model/node.ts → fs: browser-rooms-without-node',
    'lib/util/upwards.ts → lib/cli/type.ts: util-imports-downwards',
  ]);
});
