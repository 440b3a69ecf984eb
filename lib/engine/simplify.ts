import type { Attr, Binding } from './binding';
import { dtypeOf, reachable, shapeOf, type Graph, type Node, type Output } from './ir';

/**
 * Local rewrites of a traced graph, each by one rule, for what TensorFlow's own optimizer leaves. A rule looks at one node,
 * whose inputs are rewritten already, and returns what takes its place, or nothing.
 */
type Rule = (node: Node, graph: Rewriting) => Output | undefined;

class Rewriting {
  private readonly uses = new Map<Node, number>();
  private readonly constants = new Map<Node, boolean>();

  constructor(readonly binding: Binding, graph: Graph) {
    for (const node of reachable(graph.outputs)) for (const input of node.inputs) this.uses.set(input.node, (this.uses.get(input.node) ?? 0) + 1);
    for (const { node } of graph.outputs) this.uses.set(node, Infinity);
  }

  isCounted(node: Node): boolean {
    return this.uses.has(node);
  }

  /** Whoever read `original` reads `node` from now on. */
  replaced(original: Node, node: Node, fresh: boolean): void {
    this.uses.set(node, this.uses.get(original)! + (fresh ? 0 : this.uses.get(node)! - 1));
  }

  /** The node that makes a value, if nothing else reads it. */
  onlyUse({ node, index }: Output): Node | undefined {
    return index === 0 && this.uses.get(node) === 1 ? node : undefined;
  }

  /** Whether a value depends on constants alone, so that TensorFlow computes it once, when the graph is loaded. */
  isConstant({ node }: Output): boolean {
    let constant = this.constants.get(node);
    if (constant === undefined) {
      constant = node.op === 'Const' || (node.inputs.length > 0 && node.inputs.every(input => this.isConstant(input)));
      this.constants.set(node, constant);
    }
    return constant;
  }

  node(op: string, inputs: Output[], shape: readonly number[], attrs: readonly Attr[] = []): Output {
    const node: Node = { op, attrs, inputs, outputs: [{ dtype: dtypeOf(inputs[0]!), shape: [...shape] }] };
    for (const input of inputs) if (!this.uses.has(input.node)) this.uses.set(input.node, 1); // a node just made, for this one
    return { node, index: 0 };
  }

  reshape(x: Output, shape: readonly number[]): Output {
    const { TF_INT32 } = this.binding;
    const dims: Node = { op: 'Const', attrs: [], inputs: [], outputs: [{ dtype: TF_INT32, shape: [shape.length] }], values: Int32Array.from(shape) };
    return this.node('Reshape', [x, { node: dims, index: 0 }], shape);
  }
}

/** GELU within a product is oneDNN's, which TensorFlow uses on x64 unless told not to. */
const HAS_ONEDNN = process.arch === 'x64' && process.env.TF_ENABLE_ONEDNN_OPTS !== '0';

const addsBias = (node: Node) => node.op === 'BiasAdd' || node.op === 'LabBiasGelu';

/** A product of matrices, its bias and its activation in one kernel: with constant weights the lab's, else oneDNN's, of which TensorFlow finds only the bias. */
const fuseProduct: Rule = (node, graph) => {
  if (!addsBias(node)) return undefined;
  const [x, bias] = node.inputs as [Output, Output];
  const product = graph.onlyUse(x);
  if (product?.op !== 'MatMul') return undefined;
  const { TF_ATTR_STRING, TF_ATTR_INT, TF_ATTR_BOOL } = graph.binding;
  const gelu = node.op === 'LabBiasGelu';
  if (graph.isConstant(product.inputs[1]!) && graph.isConstant(bias) && !isTransposed(product)) {
    return graph.node('LabProduct', [...product.inputs, bias], shapeOf(x), [{ name: 'residuals', type: TF_ATTR_INT, value: 0 }, { name: 'gelu', type: TF_ATTR_BOOL, value: gelu }]);
  }
  if (gelu && !HAS_ONEDNN) return undefined;
  return graph.node('_FusedMatMul', [...product.inputs, bias], shapeOf(x), [
    ...product.attrs,
    { name: 'num_args', type: TF_ATTR_INT, value: 1 },
    { name: 'fused_ops', type: TF_ATTR_STRING, value: gelu ? ['BiasAdd', 'GeluExact'] : ['BiasAdd'] },
  ]);
};

const isTransposed = (product: Node) => product.attrs.some(({ name, value }) => name.startsWith('transpose') && value);

/** A residual that a product is added to, in the kernel of the product. */
const fuseResidual: Rule = (node, graph) => {
  if (node.op !== 'AddV2') return undefined;
  const { shape } = node.outputs[0]!;
  const [x, branch] = node.inputs as [Output, Output];
  const reshape = graph.onlyUse(branch);
  const product = reshape?.op === 'Reshape' ? graph.onlyUse(reshape.inputs[0]!) : undefined;
  if (product?.op !== 'LabProduct' || product.inputs.length > 3 || shapeOf(x).join() !== shape.join() || shapeOf(branch).join() !== shape.join()) return undefined;
  const rows = product.outputs[0]!.shape;
  const attrs = product.attrs.map(attr => (attr.name === 'residuals' ? { ...attr, value: 1 } : attr));
  return graph.reshape(graph.node('LabProduct', [...product.inputs, graph.reshape(x, rows)], rows, attrs), shape);
};

/**
 * Batch norm before a product, in inference: (x · scale + shift) W + b = x (scale W) + (shift W + b), where scale, shift and
 * W are constants, which leaves nothing of the norm to compute.
 */
const foldBatchNorm: Rule = (node, graph) => {
  if (!addsBias(node)) return undefined;
  const [x, bias] = node.inputs as [Output, Output];
  const product = graph.onlyUse(x);
  if (product?.op !== 'MatMul' || isTransposed(product)) return undefined;
  const [rows, weight] = product.inputs as [Output, Output];
  const reshape = graph.onlyUse(rows);
  const sum = reshape?.op === 'Reshape' ? graph.onlyUse(reshape.inputs[0]!) : undefined;
  const scaled = sum?.op === 'AddV2' ? graph.onlyUse(sum.inputs[0]!) : undefined;
  if (!sum || scaled?.op !== 'Mul') return undefined;
  const [shift, scale] = [sum.inputs[1]!, scaled.inputs[1]!];
  const [from, to] = shapeOf(weight) as [number, number];
  if (![shift, scale, weight].every(value => graph.isConstant(value)) || ![shift, scale].every(value => shapeOf(value).join() === String(from))) return undefined;
  const folded = graph.node('Mul', [weight, graph.reshape(scale, [from, 1])], [from, to]);
  const shifted = graph.reshape(graph.node('MatMul', [graph.reshape(shift, [1, from]), weight], [1, to]), [to]);
  const { shape } = node.outputs[0]!;
  return graph.node(node.op, [
    graph.node('MatMul', [graph.reshape(scaled.inputs[0]!, shapeOf(rows)), folded], shape),
    graph.node('AddV2', [shifted, bias], [to]),
  ], shape, node.attrs);
};

/** x + depthwiseConv(x): one more in the middle of the kernel. */
const foldSkip: Rule = (node, graph) => {
  if (node.op !== 'AddV2') return undefined;
  const [x, branch] = node.inputs as [Output, Output];
  const conv = graph.onlyUse(branch);
  if (conv?.op !== 'LabDepthwiseConv') return undefined;
  const [from, kernel, bias] = conv.inputs as [Output, Output, Output];
  if (from.node !== x.node || from.index !== x.index || !graph.isConstant(kernel)) return undefined;
  const shape = shapeOf(kernel);
  const channels = shape[2]!;
  const middle = new Float32Array(shape[0]! * shape[1]! * channels).fill(1, channels * (shape[0]! * shape[1]! - 1) / 2, channels * (shape[0]! * shape[1]! + 1) / 2);
  const identity: Node = { op: 'Const', attrs: [], inputs: [], outputs: [{ dtype: dtypeOf(kernel), shape }], values: middle };
  return graph.node('LabDepthwiseConv', [x, graph.node('AddV2', [kernel, { node: identity, index: 0 }], shape), bias], shapeOf(x));
};

/** A reshape of a reshape is one reshape; one that changes nothing is none. */
const mergeReshapes: Rule = (node, graph) => {
  if (node.op !== 'Reshape') return undefined;
  const { shape } = node.outputs[0]!;
  const input = node.inputs[0]!;
  if (shapeOf(input).join() === shape.join()) return input;
  return input.node.op === 'Reshape' ? graph.reshape(input.node.inputs[0]!, shape) : undefined;
};

const RULES: readonly Rule[] = [mergeReshapes, foldBatchNorm, fuseProduct, fuseResidual, foldSkip];

/** The graph with the rules applied from its inputs to its outputs, to each node until none applies. */
export function simplify(binding: Binding, graph: Graph): Graph {
  const rewriting = new Rewriting(binding, graph);
  const replacements = new Map<Node, Output>();
  // Rules replace nodes of one output, and a copy keeps its outputs' order: the indices add up.
  const follow = (output: Output): Output => {
    const replacement = replacements.get(output.node);
    return replacement ? { node: replacement.node, index: replacement.index + output.index } : output;
  };
  const apply = (node: Node): Output | undefined => {
    for (const rule of RULES) {
      const result = rule(node, rewriting);
      if (result) return result;
    }
    return undefined;
  };
  for (const original of reachable(graph.outputs)) {
    const stale = original.inputs.some(input => replacements.has(input.node));
    let current: Output = { node: stale ? { ...original, inputs: original.inputs.map(follow) } : original, index: 0 };
    if (stale) rewriting.replaced(original, current.node, true);
    for (let result = apply(current.node); result; result = apply(current.node)) {
      const fresh = !rewriting.isCounted(result.node);
      rewriting.replaced(original, result.node, fresh);
      current = result;
      if (!fresh) break;
    }
    if (current.node !== original) replacements.set(original, current);
  }
  return { inputs: graph.inputs, outputs: graph.outputs.map(follow) };
}
