import { fork } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { hasGraphs } from '../lib/engine/binding';
import type { Report } from './ops/run';

/** Tests that pass eagerly and not compiled, because TensorFlow itself differs between the two. */
const DIFFERENCES: Record<string, string> = {
  'softmax tensorflow {} Propagates NaNs':
    "oneDNN's softmax, which TensorFlow takes in graphs, keeps a NaN in its place and makes the rest of the row 0",
  'gather tensorflow {} throws when index is out of bound':
    'refused as it should be, by the running graph and so in other words',
  'einsum tensorflow {} mismatched dimensions throws error':
    'refused as it should be, by shape inference and so in other words',
  'einsum tensorflow {} incorrect number of tensors throws error':
    'refused as it should be, by shape inference and so in other words',
};

/** Kernels that the tracer refuses, all or some calls. */
const REFUSED: Record<string, string> = {
  NonMaxSuppressionV3: 'the shape of its result depends on values',
  NonMaxSuppressionV4: 'the shape of its result depends on values',
  NonMaxSuppressionV5: 'the shape of its result depends on values',
  Unique: 'the shape of its result depends on values',
  Exp: "tfjs-node's disposes its argument if that holds integers",
  Diag: 'TensorFlow has none of bool, eagerly neither',
  LeakyRelu: 'TensorFlow has none of int32, eagerly neither',
  Step: 'TensorFlow has no IsNan of int32, eagerly neither',
  IsNan: 'TensorFlow has none of int32, eagerly neither',
};

/** One run of the suite, in a process of its own. */
function runSuite(mode: 'eager' | 'compiled'): Promise<Report> {
  return new Promise((resolve, reject) => {
    const child = fork(join(__dirname, 'ops/run.ts'), [mode], {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', report => resolve(report as Report));
    child.on('exit', code => reject(new Error(`The suite ended early, with exit code ${code}.`)));
  });
}

/** What TensorFlow computes on a CPU by oneDNN alone, which it switches off where there is no VNNI, BF16 or AMX. */
const ONEDNN_ALONE = /NCHW|\bd=[2-9]|dilations > 1/;

describe.skipIf(!hasGraphs())("tfjs-core's own tests", () => {
  let eager: Report;
  let compiled: Report;
  beforeAll(async () => {
    [eager, compiled] = await Promise.all([runSuite('eager'), runSuite('compiled')]);
  }, 300_000);

  test("pass on the lab's TensorFlow as far as tfjs-node has kernels", () => {
    const passed = eager.tests.filter(spec => spec.passed).length;
    console.log(`tfjs-core's tests, eager: ${passed} of ${eager.tests.length} pass`);
    const failed = eager.tests.filter(spec => !spec.passed && !ONEDNN_ALONE.test(spec.name));
    expect(failed.length).toBeLessThanOrEqual(243);
  });

  test('pass as well with each kernel call compiled', () => {
    expect(compiled.tests.map(spec => spec.name)).toEqual(eager.tests.map(spec => spec.name));
    const comparable = compiled.tests.filter((spec, i) => spec.compiledCalls && eager.tests[i]!.passed);
    const failed = comparable.filter(spec => !spec.passed);
    const { calls, functions, kernels, refused } = compiled.routing!;
    console.log(`tfjs-core's tests, compiled: ${comparable.length - failed.length} pass of the ${comparable.length} that call kernels and pass eagerly
${calls} calls of ${kernels.length} kernels as ${functions} compiled functions`);
    expect(failed.filter(spec => !(spec.name in DIFFERENCES)).map(spec => `${spec.name}: ${spec.failure}`)).toEqual([]);
    expect(comparable.length).toBeGreaterThanOrEqual(2_500);
    expect(refused.filter(([kernel]) => !(kernel in REFUSED))).toEqual([]);
  });
});
