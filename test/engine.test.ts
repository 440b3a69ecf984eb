import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../lib/util/root';

/** What does its work when it is loaded: the command line, and the processes and threads of others. */
const PROGRAMS = [
  'cli/main.ts',
  'data/worker.ts',
  'jupyter/protocol/wire.ts',
  'jupyter/session/kernel.ts',
  'measure/jsPredictionProcess.ts',
];

/** Code that is bundled with TensorFlow.js for a browser. */
const isForBrowsers = (path: string): boolean => /^(browser|demo\/page)\//.test(path);

/** Runs JavaScript in a process of its own, from the project's root. */
function node(code: string): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ['--import', 'tsx', '-e', code], { cwd: ROOT, encoding: 'utf8' });
}

test('no module of lib loads TensorFlow', () => {
  const modules = readdirSync(join(ROOT, 'lib'), { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.ts') && !PROGRAMS.includes(path) && !isForBrowsers(path))
    .map(path => `./${relative(ROOT, join(ROOT, 'lib', path))}`);
  expect(modules.length).toBeGreaterThan(100);
  const { status, stdout, stderr } = node(`
    for (const path of ${JSON.stringify(modules)}) require(path);
    console.log(JSON.stringify(Object.keys(require.cache).filter(path => path.includes('/@tensorflow/'))));`);
  expect(status, stderr).toBe(0);
  expect(JSON.parse(stdout)).toEqual([]);
});

test('who computes without an engine gets one sentence that says what to do, and never another engine', () => {
  const { status, stderr } = node(`
    require('./lib/model/registry').createModel('edgevit-xxs', { numClasses: 2, size: 32 }).init(0);`);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^Error: tf\.tensor .*await openEngine\(\)/m);
});

test('what was taken from the handle before the engine was there computes with it afterwards', () => {
  const { status, stdout, stderr } = node(`
    const { tf } = require('./lib/tensor/tf'); // destructured: no live binding
    require('./lib/engine/open').openEngine().then(() => console.log(tf.scalar(3).dataSync()[0]));`);
  expect(status, stderr).toBe(0);
  expect(stdout.trim()).toBe('3');
});

test('each thread of Node has an engine of its own', () => {
  const compute = `
    const { openEngine } = require('./lib/engine/open');
    const { compile } = require('./lib/engine/compile/compile');
    const { ops } = require('./lib/tensor/ops');
    const { tf } = require('./lib/tensor/tf');
    const compute = async name => {
      await openEngine();
      const norm = compile(x => ops.layerNorm(x, tf.ones([4]), tf.ones([4]), 1e-5));
      for (let i = 0; i < 20; i++) console.log(name, norm(tf.zeros([2, 4])).dataSync()[0]);
    };`;
  const worker = JSON.stringify(`require('tsx/cjs'); ${compute} void compute('worker');`);
  const { status, stdout, stderr } = node(`
    ${compute}
    const { Worker } = require('node:worker_threads');
    void compute('main').then(() => [1, 2].map(() => new Worker(${worker}, { eval: true })));`);
  expect(status, stderr).toBe(0);
  expect(stdout.trim().split('\n').sort()).toEqual([...Array(20).fill('main 1'), ...Array(40).fill('worker 1')]);
});
