// A process of its own for signals.test.ts: matmuls and their gradients, compiled and op by op, for some
// seconds; then a sum of all of them, and how many signals came in meanwhile.
import { compile } from '../lib/engine/compile/compile';
import { openEngine } from '../lib/engine/open';
import { type Tensor2D, tf } from '../lib/tensor/tf';

let signals = 0;
process.on('SIGUSR2', () => signals++);

async function main(): Promise<void> {
  await openEngine();
  const x = tf.randomNormal([9216, 36], 0, 1, 'float32', 1) as Tensor2D;
  const w1 = tf.randomNormal([36, 144], 0, 0.1, 'float32', 2) as Tensor2D;
  const w2 = tf.randomNormal([144, 36], 0, 0.1, 'float32', 3) as Tensor2D;
  const gradients = () =>
    tf.grads((x, w1, w2) => tf.mean(tf.square(tf.matMul(tf.matMul(x as Tensor2D, w1 as Tensor2D), w2 as Tensor2D))))([
      x,
      w1,
      w2,
    ]);
  const compiled = compile(gradients);
  let sum = 0;
  console.log('begins');
  for (let step = 0; step < 150; step++) {
    const results = step % 2 ? compiled() : gradients();
    sum += tf.tidy(() => tf.addN(results.map(result => tf.sum(tf.abs(result)))).dataSync()[0]);
    tf.dispose(results);
    await new Promise(resolve => setImmediate(resolve)); // where Node calls the handler
  }
  console.log(JSON.stringify({ sum, signals }));
}

void main().then(() => process.exit(0));
