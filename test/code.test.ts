import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { codeDigest, codeFiles } from '../lib/runs/code';
import { ROOT } from '../lib/util/root';

// A copy of the sources, in which the model's layers stand behind an index and a kernel in a folder of its own.

const root = mkdtempSync(join(tmpdir(), 'code-'));
const path = (file: string): string => join(root, file);
let digest: string;
beforeAll(() => {
  cpSync(join(ROOT, 'lib'), path('lib'), { recursive: true });
  cpSync(join(ROOT, 'tsconfig.json'), path('tsconfig.json'));
  mkdirSync(path('lib/model/layers'));
  cpSync(path('lib/model/layers.ts'), path('lib/model/layers/primitives.ts'));
  rmSync(path('lib/model/layers.ts'));
  const source = readFileSync(path('lib/model/layers/primitives.ts'), 'utf8');
  writeFileSync(
    path('lib/model/layers/primitives.ts'),
    source.replaceAll("from '../", "from '../../").replaceAll("from './", "from '../"),
  );
  writeFileSync(path('lib/model/layers/index.ts'), `export * from "./primitives";\n`); // and with other quotes
  mkdirSync(path('lib/engine/native/x86'));
  writeFileSync(path('lib/engine/native/x86/gemm.cc'), 'int gemm();\n');
  digest = codeDigest(root);
});
afterAll(() => rmSync(root, { recursive: true }));

test.each([
  'lib/model/blocks.ts',
  'lib/model/layers/index.ts',
  'lib/model/layers/primitives.ts',
  'lib/model/baselines/vit.ts',
  'lib/tensor/ops.ts',
  'lib/engine/fused.ts',
  'lib/engine/native/norms.cc',
  'lib/engine/native/x86/gemm.cc',
  'lib/data/worker.ts',
  'lib/train/optimizers.ts',
])('a byte of %s is a byte of the code', file => {
  const before = readFileSync(path(file));
  writeFileSync(path(file), Buffer.concat([before, Buffer.from('\n')]));
  expect(codeDigest(root)).not.toBe(digest);
  writeFileSync(path(file), before);
  expect(codeDigest(root)).toBe(digest);
});

test('what decides no byte of a trial is not its code', () => {
  for (const file of ['lib/report/page.ts', 'lib/charts/curves.ts', 'lib/runs/store.ts', 'lib/cli/main.ts']) {
    expect(codeFiles(root)).not.toContain(file);
    writeFileSync(path(file), '');
  }
  expect(codeDigest(root)).toBe(digest);
});
