import { type Attr, nodeBackend, type Values } from '../engine/binding';
import { dtypeOf, type Graph, type Node, type Output, reachable } from '../engine/compile/ir';

/** A TensorFlow.js graph model: the two files that `tf.loadGraphModel` reads. */
export interface GraphModel {
  'model.json': string;
  'weights.bin': Uint8Array;
}

interface WeightEntry {
  name: string;
  shape: readonly number[];
  dtype: 'float32' | 'int32' | 'bool';
}

/**
 * A graph of `inferenceGraph` (stock) as TensorFlow.js's own converter writes it: input `images` [−1, h, w, 3], output `logits` [−1, classes].
 * It runs on plain `@tensorflow/tfjs`, on any of its backends.
 */
export function toGraphModel({ inputs, outputs }: Graph, metadata: Record<string, string>): GraphModel {
  const { binding } = nodeBackend();
  const types: Record<number, WeightEntry['dtype']> = {
    [binding.TF_FLOAT]: 'float32',
    [binding.TF_INT32]: 'int32',
    [binding.TF_BOOL]: 'bool',
  };
  const typeName = (dtype: number): string =>
    ({ float32: 'DT_FLOAT', int32: 'DT_INT32', bool: 'DT_BOOL' })[types[dtype]!];
  const attribute = ({ type, value }: Attr): object => {
    const one = (item: string | number | boolean): Record<string, unknown> => {
      if (type === binding.TF_ATTR_TYPE) return { type: typeName(item as number) };
      if (type === binding.TF_ATTR_INT) return { i: String(item) };
      if (type === binding.TF_ATTR_FLOAT) return { f: item };
      if (type === binding.TF_ATTR_BOOL) return { b: item };
      return { s: Buffer.from(String(item)).toString('base64') };
    };
    if (type === binding.TF_ATTR_SHAPE) return { shape: dims(value as number[]) };
    if (!Array.isArray(value)) return one(value as string);
    const lists: Record<string, unknown[]> = {};
    for (const item of value as number[])
      for (const [key, entry] of Object.entries(one(item))) lists[key] = [...(lists[key] ?? []), entry];
    return { list: lists };
  };

  const names = new Map<Node, string>(inputs.map(node => [node, 'images']));
  const order = reachable(outputs);
  for (const node of order) if (!names.has(node)) names.set(node, `${node.op}_${names.size}`);
  const reference = ({ node, index }: Output): string =>
    index === 0 ? names.get(node)! : `${names.get(node)}:${index}`;
  const weights: WeightEntry[] = [];
  const data: Values[] = [];
  const nodes = order.map(node => {
    const name = names.get(node)!;
    if (!node.values)
      return {
        name,
        op: node.op,
        input: node.inputs.map(reference),
        attr: Object.fromEntries(node.attrs.map(attr => [attr.name, attribute(attr)])),
      };
    const dtype = dtypeOf({ node, index: 0 });
    const { shape } = node.outputs[0]!;
    weights.push({ name, shape, dtype: types[dtype]! });
    data.push(node.values);
    const type = typeName(dtype);
    return {
      name,
      op: 'Const',
      attr: { dtype: { type }, value: { tensor: { dtype: type, tensorShape: dims(shape) } } },
    };
  });
  const logits = { name: 'logits', op: 'Identity', input: outputs.map(reference), attr: { T: { type: 'DT_FLOAT' } } };
  const info = (name: string, { node, index }: Output): object => ({
    name: `${name}:0`,
    dtype: 'DT_FLOAT',
    tensorShape: dims(node.outputs[index]!.shape),
  });
  const [images] = inputs as [Node];
  const topology = {
    format: 'graph-model',
    generatedBy: binding.TF_Version,
    convertedBy: 'EdgeViT Lab',
    signature: {
      inputs: { images: info('images', { node: images, index: 0 }) },
      outputs: { logits: info('logits', outputs[0]!) },
    },
    modelTopology: { node: [...nodes, logits], library: {}, versions: { producer: 1882 } },
    weightsManifest: [{ paths: ['weights.bin'], weights }],
    userDefinedMetadata: metadata,
  };
  return {
    'model.json': JSON.stringify(topology),
    'weights.bin': Buffer.concat(
      data.map(values => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)),
    ),
  };
}

const dims = (shape: readonly number[]): object => ({ dim: shape.map(size => ({ size: String(size) })) });
