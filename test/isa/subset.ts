import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openEngine } from '../../lib/engine/open';

/**
 * What the lab does, once each, in one process and in seconds: trains, evaluates, predicts, compiles with constant and with captured
 * weights, and exports. Prints the numbers as JSON. Argument: a folder for what is written.
 */
async function main(folder: string): Promise<void> {
  const { description } = await openEngine();
  const { compile } = await import('../../lib/engine/compile/compile');
  const { exportSavedModel } = await import('../../lib/engine/savedModel');
  const { tf } = await import('../../lib/tensor/tf');
  const { createTrainer } = await import('../../lib/train/trainer');
  const { random } = await import('../../lib/util/random');
  const { tinyPlan } = await import('../training');

  const plan = tinyPlan({ epochs: 1 });
  const { model } = plan;
  const trainer = createTrainer(plan);
  const losses: number[] = [];
  for await (const event of trainer.events()) if ('loss' in event) losses.push(event.loss as number);
  const evaluation = await trainer.test();
  trainer.dispose();

  const { params, buffers } = model.init(1);
  const rng = random('subset');
  const images = tf.tensor4d(
    Float32Array.from({ length: 2 * 32 * 32 * 3 }, () => rng.normal()),
    [2, 32, 32, 3],
  );
  const predict = (x: typeof images) => model.forward(x, params, buffers, { train: false }).logits;
  const values = (result: { dataSync(): ArrayLike<number> }) => Array.from(result.dataSync());
  const exported = join(folder, 'exported');
  exportSavedModel(exported, ({ x }) => ({ logits: predict(x as typeof images) }), {
    x: { shape: [2, 32, 32, 3], dtype: 'float32' },
  });
  console.log(
    JSON.stringify({
      description,
      losses,
      evaluated: evaluation !== undefined,
      eager: values(predict(images)),
      constant: values(compile(predict, { capture: 'constant' })(images)),
      input: values(compile(predict, { capture: 'input' })(images)),
      exported: existsSync(join(exported, 'saved_model.pb')),
    }),
  );
}

void main(process.argv[2] ?? '.');
