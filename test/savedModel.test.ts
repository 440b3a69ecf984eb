import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { completeEnvironment, pythonEnvironment } from '../experiments/bench/python';
import { hasGraphs } from '../lib/engine/binding';
import { cacheFolder } from '../lib/engine/build/system';
import { exportSavedModel } from '../lib/engine/savedModel';
import { createModel } from '../lib/model/registry';
import { type Tensor, tf } from '../lib/tensor/tf';
import { UserError } from '../lib/util/errors';
import { random } from '../lib/util/random';
import './allclose';

const scratch = mkdtempSync(join(tmpdir(), 'edgevit-saved-model-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Loads SavedModels as anyone would, calls their signatures, and prints what each takes and gives: an answer in a line to each line. */
const SERVE = `
import json, sys
import numpy as np
import tensorflow as tf
for line in sys.stdin:
    request = json.loads(line)
    serve = tf.saved_model.load(request["dir"]).signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    inputs = {name: tf.constant(np.reshape(values, specs[name].shape).astype(specs[name].dtype.as_numpy_dtype)) for name, values in request["inputs"].items()}
    print(json.dumps({
        "signature": {name: [spec.shape.as_list(), spec.dtype.name] for name, spec in specs.items()},
        "outputs": {name: [value.shape.as_list(), value.dtype.name, tf.reshape(value, [-1]).numpy().tolist()] for name, value in serve(**inputs).items()},
    }), flush=True)
`;

interface Served {
  signature: Record<string, [shape: number[], dtype: string]>;
  outputs: Record<string, [shape: number[], dtype: string, values: number[]]>;
}

/** An interpreter that has TensorFlow, or why there is none: the peers' environment, else one of TensorFlow alone in the user's cache. */
let python: string | UserError;
beforeAll(async () => {
  try {
    python =
      completeEnvironment(join(__dirname, '../.venv-bench'), 'peers') ??
      (await pythonEnvironment(join(cacheFolder(), 'python-tensorflow'), 'tensorflow', () => {}));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    python = error;
  }
}, 600_000); // a download of 0.3 GB, once

/** One process for all tests, since Python takes seconds to import TensorFlow. */
function startServer(python: string) {
  const server = spawn(python, ['-c', SERVE], { env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2' } });
  let said = '';
  server.stderr.on('data', text => (said += text));
  const lines = createInterface(server.stdout);
  const ended = once(server, 'close').then(() => {
    throw new Error(said);
  });
  ended.catch(() => {}); // whoever waits for an answer is told
  return {
    async ask(request: object): Promise<Served> {
      server.stdin.write(`${JSON.stringify(request)}\n`);
      const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string];
      return JSON.parse(line) as Served;
    },
    end: () => server.kill(),
  };
}
let server: ReturnType<typeof startServer> | undefined;
afterAll(() => void server?.end());

async function serve(ctx: TestContext, dir: string, inputs: Record<string, Tensor>): Promise<Served> {
  if (typeof python !== 'string') return ctx.skip(python.message);
  server ??= startServer(python);
  const values = Object.entries(inputs).map(([name, tensor]) => [name, Array.from(tensor.dataSync())]);
  return server.ask({ dir, inputs: Object.fromEntries(values) });
}

describe.skipIf(!hasGraphs())('exportSavedModel, served by TensorFlow in Python', () => {
  it("gives the network's logits", async ctx => {
    const model = createModel('edgevit-xxs', { numClasses: 10, size: 64 });
    const { params, buffers } = model.init(0);
    const logits = (images: Tensor) => model.forward(images, params, buffers, { train: false }).logits;
    const rng = random('savedModel');
    const images = tf.tensor4d(
      Float32Array.from({ length: 2 * 64 * 64 * 3 }, () => rng.normal()),
      [2, 64, 64, 3],
    );
    const dir = join(scratch, 'network');
    exportSavedModel(dir, inputs => ({ logits: logits(inputs.images) }), {
      images: { shape: [2, 64, 64, 3], dtype: 'float32' },
    });
    const { signature, outputs } = await serve(ctx, dir, { images });
    expect(signature).toEqual({ images: [[2, 64, 64, 3], 'float32'] });
    const [shape, dtype, values] = outputs.logits;
    expect([shape, dtype]).toEqual([[2, 10], 'float32']);
    expect(values).toBeAllclose(logits(images));
  });

  it('gives gradients, several outputs and other dtypes by name', async ctx => {
    const fn = ({ x, scale, flag }: Record<string, Tensor>) => ({
      gradient: tf.grad((x: Tensor) => tf.sum(tf.mul(tf.square(x), scale)))(x),
      largest: tf.argMax(x, 1),
      flipped: tf.logicalNot(flag),
    });
    const inputs = {
      x: tf.tensor2d([
        [1, -2, 3],
        [4, 5, -6],
      ]),
      scale: tf.scalar(2),
      flag: tf.tensor1d([true, false], 'bool'),
    };
    const dir = join(scratch, 'dtypes');
    exportSavedModel(dir, fn, {
      x: { shape: [2, 3], dtype: 'float32' },
      scale: { shape: [], dtype: 'float32' },
      flag: { shape: [2], dtype: 'bool' },
    });
    const { outputs } = await serve(ctx, dir, inputs);
    expect(outputs).toEqual({
      gradient: [[2, 3], 'float32', [4, -8, 12, 16, 20, -24]],
      largest: [[2], 'int32', [2, 1]],
      flipped: [[2], 'bool', [false, true]],
    });
  });
});

describe.skipIf(!hasGraphs())('exportSavedModel', () => {
  const signature = { x: { shape: [2], dtype: 'float32' as const } };
  const double = ({ x }: Record<string, Tensor>) => ({ y: tf.mul(x, 2) });

  it('never writes into a folder with something in it, nor leaves anything half-done', () => {
    const dir = join(scratch, 'occupied');
    mkdirSync(dir);
    writeFileSync(join(dir, 'mine.txt'), '');
    expect(() => exportSavedModel(dir, double, signature)).toThrow(UserError);
    expect(readdirSync(dir)).toEqual(['mine.txt']);

    const failed = join(scratch, 'failed');
    expect(() => exportSavedModel(failed, ({ x }) => ({ y: tf.scalar(x.dataSync()[0]) }), signature)).toThrow();
    expect(readdirSync(scratch)).not.toContain('failed');
  });

  it('refuses names that Python could not write, and frees what it made', () => {
    const tensors = tf.memory().numTensors;
    expect(() => exportSavedModel(join(scratch, 'a'), double, { 'a.b': { shape: [2], dtype: 'float32' } })).toThrow(
      UserError,
    );
    expect(() => exportSavedModel(join(scratch, 'b'), ({ x }) => ({ 'a.b': tf.clone(x) }), signature)).toThrow(
      UserError,
    );
    exportSavedModel(join(scratch, 'c'), double, signature);
    expect(tf.memory().numTensors).toBe(tensors);
  });
});
