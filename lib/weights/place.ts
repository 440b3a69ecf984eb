import type { ParamSpec } from '../model/module';
import { fromTorch } from '../tensor/layout';
import { type Tensor, tf } from '../tensor/tf';
import type { HostTensor } from './safetensors';

/** Host tensors in PyTorch's layout → tensors in ours, by the specs' names, all of which must be there and fit. The caller disposes. */
export function placeTensors(
  specs: readonly ParamSpec[],
  tensors: Readonly<Record<string, HostTensor>>,
): Record<string, Tensor> {
  return Object.fromEntries(
    specs.map(spec => [
      spec.name,
      tf.tensor(fromTorch(spec, tensors[spec.name]!.data as Float32Array), [...spec.shape]),
    ]),
  );
}
