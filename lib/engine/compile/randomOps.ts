import { createRequire } from 'node:module';
import type * as TensorFlow from '@tensorflow/tfjs';
import { type Tensor, type Tensor1D, type Tensor2D, tf } from '../../tensor/tf';
import { nodeBackend } from '../binding';

type Core = Pick<
  typeof TensorFlow,
  'dropout' | 'multinomial' | 'randomNormal' | 'randomStandardNormal' | 'randomUniform' | 'truncatedNormal'
>;

const load = createRequire(__filename);

/** tfjs-core's exports, of which tf.* and tf.layers take their ops at each call. */
export const core = (): Core => createRequire(load.resolve('@tensorflow/tfjs'))('@tensorflow/tfjs-core') as Core;

/** Far apart for neighbouring sites (2³² divided by the golden ratio), so that those of neighbouring seeds are not the same. */
const STRIDE = 0x9e3779b1;

/**
 * tfjs's random ops where they have no seed of their own, as TensorFlow's stateless ones: their numbers depend on `seed`, an int32
 * tensor [2], and on how many of them came before, and on nothing else.
 */
export function randomOps(seed: () => Tensor): Core {
  const original = { ...core() };
  const { binding } = nodeBackend();
  let sites = 0;
  const draw = (op: string, types: Record<string, number>, inputs: Tensor[]): Tensor => {
    const attrs = Object.entries(types).map(([name, value]) => ({ name, type: binding.TF_ATTR_TYPE, value }));
    const site = tf.add(seed(), tf.tensor1d([(STRIDE * sites++) | 0, 0], 'int32'));
    return nodeBackend().executeMultipleOutputs(
      op,
      [...attrs, { name: 'Tseed', type: binding.TF_ATTR_TYPE, value: binding.TF_INT32 }],
      [...inputs, site],
      1,
    )[0]!;
  };
  const floats = (op: string, shape: readonly number[]) =>
    draw(op, { dtype: binding.TF_FLOAT, T: binding.TF_INT32 }, [tf.tensor1d([...shape], 'int32')]);
  const cast = (values: Tensor, dtype: TensorFlow.DataType = 'float32') =>
    dtype === 'float32' ? values : tf.cast(tf.round(values), dtype); // as tfjs rounds them
  const scaled = (values: Tensor, mean: number, factor: number, dtype?: TensorFlow.DataType) =>
    cast(tf.add(tf.mul(values, factor), mean), dtype);

  const ops = {
    randomUniform(shape: number[], min = 0, max = 1, dtype?: TensorFlow.DataType, own?: number | string) {
      if (own) return original.randomUniform(shape, min, max, dtype as 'float32', own);
      return scaled(floats('StatelessRandomUniform', shape), min, max - min, dtype);
    },
    randomNormal(shape: number[], mean = 0, deviation = 1, dtype?: 'float32' | 'int32', own?: number) {
      if (own) return original.randomNormal(shape, mean, deviation, dtype, own);
      return scaled(floats('StatelessRandomNormal', shape), mean, deviation, dtype);
    },
    randomStandardNormal: (shape: number[], dtype?: 'float32' | 'int32', own?: number) =>
      ops.randomNormal(shape, 0, 1, dtype, own),
    truncatedNormal(shape: number[], mean = 0, deviation = 1, dtype?: 'float32' | 'int32', own?: number) {
      if (own) return original.truncatedNormal(shape, mean, deviation, dtype, own);
      return scaled(floats('StatelessTruncatedNormal', shape), mean, deviation, dtype);
    },
    multinomial(
      logits: Tensor1D | Tensor2D | TensorFlow.TensorLike,
      samples: number,
      own?: number,
      normalized = false,
    ) {
      if (own) return original.multinomial(logits, samples, own, normalized);
      const x = logits instanceof tf.Tensor ? logits : (tf.tensor(logits) as Tensor);
      const rows = x.rank === 1 ? tf.reshape(x, [1, -1]) : x;
      const inputs = [normalized ? tf.log(rows) : rows, tf.scalar(samples, 'int32')];
      const result = draw('StatelessMultinomial', { T: binding.TF_FLOAT, output_dtype: binding.TF_INT32 }, inputs);
      return x.rank === 1 ? tf.reshape(result, [samples]) : result;
    },
    dropout(x: Tensor | TensorFlow.TensorLike, rate: number, noiseShape?: number[], own?: number | string) {
      if (own || rate <= 0 || rate >= 1) return original.dropout(x, rate, noiseShape, own);
      const values = x instanceof tf.Tensor ? x : tf.tensor(x);
      const shape = noiseShape?.map((size, i) => size ?? values.shape[i]!) ?? values.shape;
      const kept = tf.greaterEqual(floats('StatelessRandomUniform', shape), rate);
      return tf.mul(values, tf.mul(tf.cast(kept, 'float32'), 1 / (1 - rate)));
    },
  };
  return ops as unknown as Core;
}
