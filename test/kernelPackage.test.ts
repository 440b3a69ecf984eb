import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { KernelClient } from '../lib/jupyter/notebook/client';
import { ROOT } from '../lib/util/root';

test('the package, installed in an empty folder, offers a kernel that imports what the folder has', async () => {
  const place = mkdtempSync(join(tmpdir(), 'edgevit-package-'));
  onTestFinished(() => rmSync(place, { recursive: true, force: true }));
  const folder = join(place, 'notebooks');
  mkdirSync(folder);
  const environment = { ...process.env, JUPYTER_DATA_DIR: join(place, 'jupyter') };
  const execute = (cwd: string, command: string, ...args: string[]): void =>
    void execFileSync(command, args, { cwd, env: environment, stdio: 'pipe' });

  execute(ROOT, 'npm', 'pack', '--pack-destination', place);
  writeFileSync(join(folder, 'package.json'), '{ "name": "mine", "private": true }');
  const [tarball] = readdirSync(place).filter(name => name.endsWith('.tgz'));
  execute(folder, 'npm', 'install', '--prefer-offline', '--no-audit', '--no-fund', join(place, tarball), 'lodash@4');
  expect(existsSync(join(folder, 'node_modules/@tensorflow'))).toBe(false);
  execute(folder, 'npx', 'edgevit-lab', 'kernel', '--user');

  const { argv } = JSON.parse(readFileSync(join(place, 'jupyter/kernels/edgevit-lab/kernel.json'), 'utf8'));
  expect(argv.join(' ')).not.toContain(ROOT);
  const kernel = await KernelClient.start(argv, environment, folder);
  onTestFinished(() => kernel.stop());
  let result: unknown;
  const reply = await kernel.request(
    'execute_request',
    { code: "import _ from 'lodash'; _.chunk([1, 2, 3], 2)" },
    { onOutput: ({ header, content }) => header.msg_type === 'execute_result' && (result = content.data) },
  );
  expect(reply.status).toBe('ok');
  expect(result).toMatchObject({ 'text/plain': '[ [ 1, 2 ], [ 3 ] ]' });
}, 300_000);
