import { hasGraphs, nodeBackend } from '../engine/binding';
import { BATCHES, unify } from '../engine/compile/dynamicBatch';
import { type Graph, load, type Node, type Output, reachable } from '../engine/compile/ir';
import { trace } from '../engine/compile/trace';
import { isOneKernel } from '../engine/fused';
import type { Weights } from '../measure/activations';
import type { Model } from '../model/module';
import { type Ops, ops, stockOps, withOps } from '../tensor/ops';
import { type Tensor, tf } from '../tensor/tf';
import { UserError } from '../util/errors';

/** What a graph computes of images [b, h, w, 3]: each output's first dimension is the batch. */
export type Outputs = (model: Model, weights: Weights, images: Tensor) => Tensor | Tensor[];

const logitsOf: Outputs = (model, { params, buffers }, images) =>
  model.forward(images, params, buffers, { train: false }).logits;

/**
 * The forward pass of a model in evaluation mode as a graph for batches of any size: images [−1, h, w, 3] → logits [−1, classes]. Weights, and
 * all that depends on them alone, are constants. Of the kind 'stock' it holds TensorFlow's own ops only, with 'fused' the lab's too, each of
 * which stands for a composition that another runtime may have as one op. `outputs` may ask for more than the logits. Throws UserError on an
 * engine without graphs.
 */
export function inferenceGraph(
  model: Model,
  weights: Weights,
  kind: 'stock' | 'fused',
  outputs: Outputs = logitsOf,
): Graph {
  if (!hasGraphs()) throw new UserError('Models are exported by the native engine only: npm run setup.');
  const { binding } = nodeBackend();
  const record = (batch: number): Graph => {
    const images = tf.zeros([batch, ...model.inputSize, 3]);
    const forward = () =>
      trace((x: typeof images) => outputs(model, weights, x), [images], {
        capture: 'constant',
        inputNames: ['images'],
      });
    try {
      const { inputs, outputs } = withOps(kind === 'stock' ? stockOps : withWholeConvolutions(ops), forward);
      return { inputs, outputs };
    } finally {
      images.dispose();
    }
  };
  return foldConstants(unify(binding, BATCHES.map(record), [true]));
}

/** Whoever reads the graph has convolutions of any kind: none has to be put together of what the lab has. */
function withWholeConvolutions(ours: Ops): Ops {
  return {
    ...ours,
    conv: stockOps.conv,
    depthwiseConv: (x, kernel, bias, stride = 1) =>
      (isOneKernel(kernel, stride) ? ours : stockOps).depthwiseConv(x, kernel, bias, stride),
  };
}

/** Has TensorFlow compute what depends on constants alone. */
function foldConstants({ inputs, outputs }: Graph): Graph {
  const { binding } = nodeBackend();
  const order = reachable(outputs);
  const constant = new Set<Node>();
  for (const node of order)
    if (node.values || (node.inputs.length > 0 && node.inputs.every(input => constant.has(input.node))))
      constant.add(node);
  // What the rest of the graph reads of them, apart from constants that are there already.
  const needed = [...order.filter(node => !constant.has(node)).flatMap(node => node.inputs), ...outputs].filter(
    ({ node }) => constant.has(node) && !node.values,
  );
  const frontier = [...new Map(needed.map(output => [output.node, { node: output.node, index: 0 }])).values()];
  const folded = new Map<Node, Node>();
  if (frontier.length > 0) {
    const session = load(binding, { inputs: [], outputs: frontier });
    try {
      binding.sessionRun(session, []).forEach(({ id, dtype, shape }, i) => {
        const values = binding.tensorDataSync(id);
        binding.deleteTensor(id);
        const node: Node = { op: 'Const', attrs: [], inputs: [], outputs: [{ dtype, shape }], values };
        folded.set(frontier[i]!.node, node);
      });
    } finally {
      binding.sessionDelete(session);
    }
  }
  for (const node of order) {
    if (constant.has(node)) continue;
    folded.set(node, { ...node, inputs: node.inputs.map(input => follow(input, folded)) });
  }
  return {
    inputs: inputs.map(node => folded.get(node) ?? node),
    outputs: outputs.map(output => follow(output, folded)),
  };
}

const follow = ({ node, index }: Output, folded: ReadonlyMap<Node, Node>): Output => ({
  node: folded.get(node) ?? node,
  index,
});
