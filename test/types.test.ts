import { join } from 'node:path';
import { expect, test } from 'vitest';
import { execute } from '../lib/util/processes';

const root = join(__dirname, '..');

test.each(['.', 'lib/browser'])('the types of %s are right', async project => {
  // By its path: tslab's compiler package, TypeScript 5.0, claims the name `tsc` too.
  const { code, output } = await execute(process.execPath, ['node_modules/typescript/bin/tsc', '-p', project], {
    cwd: root,
  });
  expect(output).toBe('');
  expect(code).toBe(0);
});
