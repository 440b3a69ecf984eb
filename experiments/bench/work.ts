import { writeFileSync } from 'node:fs';
import type { KernelTiming } from '../../lib/engine/binding';
import { type Compiled, compile } from '../../lib/engine/compile/compile';
import { exportSavedModel, type Signature } from '../../lib/engine/savedModel';
import { onnxOf } from '../../lib/export/graphs';
import { encodeOnnx } from '../../lib/export/onnx/graph';
import type { Model } from '../../lib/model/module';
import { createModel } from '../../lib/model/registry';
import { type Tensor, tf } from '../../lib/tensor/tf';
import { flatten, type Tree, unflatten } from '../../lib/tensor/tree';
import { evalStep, type StepBatch, type StepDraw, type StepSettings, trainStep } from '../../lib/train/step';
import { untrained } from '../../lib/train/trained';
import { random } from '../../lib/util/random';
import { onnxBeside, type Task } from './workloads';

/** A task of the benchmark on the lab's own code. */
export interface Work {
  /** One step or one prediction, from the batch in host memory to the loss or the logits in host memory. */
  run(): void;
  /** One run, kernel by kernel. Needs the compiled engine. */
  profile(): KernelTiming[];
  /** Writes it as a SavedModel, a prediction also as ONNX beside it. State that a step renews is input and output under one name. */
  export(dir: string): void;
}

/** Op by op as stock tfjs-node runs, or compiled into a graph. */
export type Engine = 'eager' | 'compiled';

const LEARNING_RATE = 1e-3;
const ADAMW: StepSettings = {
  optimizer: 'adamw',
  weightDecay: 0.05,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  momentum: 0,
  labelSmoothing: 0,
  clip: 0,
  ema: 0,
};

export function createWork(task: Task, engine: Engine): Work {
  const model = createModel(task.model, { numClasses: task.classes, size: task.size });
  return task.mode === 'train' ? training(task, model, engine) : inference(task, model, engine);
}

function training({ batch, size, classes }: Task, model: Model, engine: Engine): Work {
  const { run: fn, draw, initialState } = trainStep(model, ADAMW);
  const step = maybeCompile(fn, engine, 'input');
  const rng = random('bench');
  const pictures = hostPictures(batch, size);
  const labels = hostTargets(batch, classes);
  const { params, buffers } = model.init(0);
  let current = { params, state: initialState(params, buffers) };
  let done = 0;

  /** What a step gets from the host, made anew each time, as in training. */
  const fromHost = (): { batch: StepBatch; draw: StepDraw } => {
    const noise = Float32Array.from({ length: model.dropPathSites * batch }, () => rng.uniform());
    return {
      batch: { images: tf.tensor4d(pictures, [batch, size, size, 3]), targets: tf.tensor2d(labels, [batch, classes]) },
      draw: draw(++done, LEARNING_RATE, tf.tensor2d(noise, [model.dropPathSites, batch])),
    };
  };

  return {
    run() {
      const given = fromHost();
      const result = step(current.params, current.state, given.batch, given.draw);
      result.loss.dataSync();
      tf.dispose([current, given, result.loss, result.correct]);
      current = { params: result.params, state: result.state };
    },
    profile() {
      const given = fromHost();
      const timings = step.profile(current.params, current.state, given.batch, given.draw);
      tf.dispose(given);
      return timings;
    },
    export(dir) {
      const given = fromHost();
      const stateNames = namesOf(current, 'state');
      const names = [...namesOf(given, 'host'), ...stateNames];
      const example = { given, current };
      exportSavedModel(
        dir,
        inputs => {
          const { given, current } = unflatten(
            example,
            names.map(name => inputs[name]),
          ) as typeof example;
          const { loss, params, state } = fn(current.params, current.state, given.batch, given.draw);
          const renewed = flatten({ params, state }).leaves.map((tensor, i) => [stateNames[i], tensor]);
          return { loss, ...Object.fromEntries(renewed) };
        },
        signatureOf(example, names),
      );
      tf.dispose(given);
    },
  };
}

function inference({ batch, size }: Task, model: Model, engine: Engine): Work {
  const { params, buffers } = model.init(0);
  const logits = evalStep(model);
  const fn = (images: Tensor) => logits(params, buffers, images);
  const predict = maybeCompile(fn, engine, 'constant');
  const pictures = hostPictures(batch, size);
  const fromHost = () => tf.tensor4d(pictures, [batch, size, size, 3]);
  return {
    run() {
      const images = fromHost();
      const output = predict(images);
      output.dataSync();
      tf.dispose([images, output]);
    },
    profile() {
      const images = fromHost();
      const timings = predict.profile(images);
      images.dispose();
      return timings;
    },
    export(dir) {
      exportSavedModel(dir, inputs => ({ logits: fn(inputs.images) }), {
        images: { shape: [batch, size, size, 3], dtype: 'float32' },
      });
      writeFileSync(onnxBeside(dir), encodeOnnx(onnxOf(untrained(model))));
    },
  };
}

function maybeCompile<A extends readonly Tree[], R extends Tree>(
  fn: (...args: A) => R,
  engine: Engine,
  capture: 'input' | 'constant',
): Compiled<A, R> {
  if (engine === 'compiled') return compile(fn, { capture });
  const profile = () => {
    throw new Error('Only a compiled function can be profiled.');
  };
  return Object.assign((...args: A) => fn(...args), {
    async: async (...args: A) => fn(...args),
    profile,
    dispose() {},
  });
}

/** [b, h, w, 3], as normalised images are: centred, of unit order. */
function hostPictures(batch: number, size: number): Float32Array {
  const rng = random('pictures');
  return Float32Array.from({ length: batch * size * size * 3 }, () => 4 * rng.uniform() - 2);
}

/** [b, classes], one-hot with label smoothing 0.1. */
function hostTargets(batch: number, classes: number): Float32Array {
  return Float32Array.from(
    { length: batch * classes },
    (_, i) => 0.1 / classes + (i % classes === Math.floor(i / classes) % classes ? 0.9 : 0),
  );
}

function namesOf(tree: Tree, prefix: string): string[] {
  return flatten(tree).leaves.map((_, i) => `${prefix}_${i}`);
}

function signatureOf(tree: Tree, names: readonly string[]): Signature {
  return Object.fromEntries(
    flatten(tree).leaves.map(({ shape, dtype }, i) => [names[i], { shape, dtype: dtype as 'float32' }]),
  );
}
