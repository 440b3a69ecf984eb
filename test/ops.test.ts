import { fork } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { hasGraphs } from '../lib/engine/binding';
import type { Report } from './ops/run';

/** Tests that pass eagerly and not through graphs, because TensorFlow itself differs between the two. */
const DIFFERENCES: Record<string, string> = {
  'softmax tensorflow {} Propagates NaNs': 'oneDNN\'s softmax, which graphs use, gives the NaN back where it was and 0 elsewhere',
  'einsum tensorflow {} mismatched dimensions throws error': 'refused by shape inference, in other words than the kernel\'s',
  'einsum tensorflow {} incorrect number of tensors throws error': 'refused by shape inference, in other words than the kernel\'s',
};

/** One run of the suite, in a process of its own. */
function runSuite(mode: 'eager' | 'graphs'): Promise<Report> {
  return new Promise((resolve, reject) => {
    const child = fork(join(__dirname, 'ops/run.ts'), [mode], { execArgv: ['--import', 'tsx'], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    child.on('message', report => resolve(report as Report));
    child.on('exit', code => reject(new Error(`The suite ended early, with exit code ${code}.`)));
  });
}

describe.skipIf(!hasGraphs())('tfjs-core\'s own tests', () => {
  let eager: Report;
  let graphs: Report;
  beforeAll(async () => {
    eager = await runSuite('eager');
    graphs = await runSuite('graphs');
  });

  test('pass on the lab\'s TensorFlow as far as tfjs-node has kernels', () => {
    const passed = eager.tests.filter(spec => spec.passed).length;
    console.log(`tfjs-core's tests, eager: ${passed} of ${eager.tests.length} pass`);
    expect(passed).toBeGreaterThanOrEqual(3_960);
  });

  test('pass as well with each kernel call as a graph of one op', () => {
    expect(graphs.tests.map(spec => spec.name)).toEqual(eager.tests.map(spec => spec.name));
    const comparable = graphs.tests.filter((spec, i) => spec.routedCalls && eager.tests[i]!.passed);
    const failed = comparable.filter(spec => !spec.passed);
    const { calls, graphs: built, ops, shapeless } = graphs.routing!;
    console.log(`tfjs-core's tests, one-op graphs: ${comparable.length - failed.length} pass of the ${comparable.length} that call kernels and pass eagerly
${calls} calls of ${ops.length} ops in ${built} graphs; shapes that depend on values, so can't be compiled: ${shapeless.join(', ')}`);
    expect(failed.filter(spec => !(spec.name in DIFFERENCES)).map(spec => `${spec.name}: ${spec.failure}`)).toEqual([]);
    expect(comparable.length).toBeGreaterThanOrEqual(2_500);
  });
});
