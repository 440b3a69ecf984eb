import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { KernelClient } from '../../lib/jupyter/notebook/client';
import { createModel } from '../../lib/model/registry';
import { saveWeights } from '../../lib/train/checkpoint';
import { ROOT } from '../../lib/util/root';

/** An empty folder in which the package was installed as anybody would: from a tarball, by npm, installers allowed. */
let place: string;
let folder: string;
let environment: NodeJS.ProcessEnv;

const execute = (cwd: string, command: string, ...args: string[]): string =>
  execFileSync(command, args, { cwd, env: environment, stdio: 'pipe', encoding: 'utf8' });

beforeAll(() => {
  place = mkdtempSync(join(tmpdir(), 'edgevit-package-'));
  folder = join(place, 'mine');
  mkdirSync(folder);
  environment = { ...process.env, JUPYTER_DATA_DIR: join(place, 'jupyter') };
  execute(ROOT, 'npm', 'pack', '--pack-destination', place);
  writeFileSync(join(folder, 'package.json'), '{ "name": "mine", "private": true, "type": "module" }');
  const [tarball] = readdirSync(place).filter(name => name.endsWith('.tgz'));
  const quiet = ['--ignore-scripts=false', '--prefer-offline', '--no-audit', '--no-fund'];
  execute(folder, 'npm', 'install', ...quiet, join(place, tarball), 'lodash@4');
}, 300_000);
afterAll(() => rmSync(place, { recursive: true, force: true }));

test('the package offers a kernel that imports what its folder has', async () => {
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

test('it bundles for a browser, with nothing of Node and TensorFlow.js left to the folder', async () => {
  const { warnings, metafile } = await build({
    stdin: { contents: "export * from 'edgevit-lab';", resolveDir: folder },
    bundle: true,
    write: false,
    metafile: true,
    platform: 'browser',
    format: 'esm',
    external: ['@tensorflow/tfjs'],
  });
  expect(warnings).toEqual([]);
  const [{ imports, exports }] = Object.values(metafile.outputs);
  expect(exports).toEqual(['loadModel', 'loadRun']);
  expect(new Set(imports.map(({ path }) => path))).toEqual(new Set(['@tensorflow/tfjs']));
}, 60_000);

test('somebody else’s TypeScript loads a model and predicts, in five lines that type-check', async () => {
  const model = createModel('edgevit-xxs', { numClasses: 4, size: 64 });
  const { params, buffers } = model.init(0);
  saveWeights(join(folder, 'model.safetensors'), model, params, buffers, 0);
  const photo = sharp({ create: { width: 80, height: 60, channels: 3, background: '#c06' } });
  await photo.jpeg().toFile(join(folder, 'photo.jpg'));
  const program = `
    import { loadModel } from 'edgevit-lab';
    const model = await loadModel('model.safetensors');
    const classes = await model.predict('photo.jpg');
    console.log(JSON.stringify(classes));`;
  writeFileSync(join(folder, 'main.ts'), program);
  writeFileSync(join(folder, 'wrong.ts'), program.replace("'photo.jpg'", '12'));

  const check = ['node_modules/typescript/bin/tsc', '--noEmit', '--strict', '--types', 'node', '--module', 'nodenext'];
  execute(folder, 'node', ...check, 'main.ts');
  expect(() => execute(folder, 'node', ...check, 'wrong.ts')).toThrow();
  writeFileSync(join(folder, 'main.js'), program); // as tsc would leave it
  for (const main of [['--import', 'tsx', 'main.ts'], ['main.js']]) {
    const said = JSON.parse(execute(folder, 'node', ...main)) as { name: string; probability: number }[];
    expect(said.map(({ name }) => name).sort()).toEqual(['class 0', 'class 1', 'class 2', 'class 3']);
    expect(said.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 5);
  }
}, 300_000);
