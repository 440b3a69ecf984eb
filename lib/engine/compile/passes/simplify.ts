import type { Attr, Binding } from '../../binding';
import { type AttrsOf, attrsOf, type InputsOf, inputNames, longestList, type OpName } from '../../nativeOps';
import { dtypeOf, type Graph, type Node, type Output, reachable, shapeOf } from '../ir';

/**
 * Local rewrites of a traced graph, each by one rule, for what TensorFlow's own optimizer leaves. A rule looks at one node,
 * whose inputs are rewritten already, and returns what takes its place, or nothing.
 */
export type Rule = (node: Node, graph: Rewriting) => Output | undefined;

class Rewriting {
  private readonly uses = new Map<Node, number>();
  private readonly constants = new Map<Node, boolean>();

  constructor(
    readonly binding: Binding,
    graph: Graph,
  ) {
    for (const node of reachable(graph.outputs))
      for (const input of node.inputs) this.uses.set(input.node, (this.uses.get(input.node) ?? 0) + 1);
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
  isConstant(output: Output): boolean {
    const { constants } = this;
    for (const node of reachable([output], node => constants.has(node))) {
      const { op, inputs } = node;
      constants.set(node, op === 'Const' || (inputs.length > 0 && inputs.every(input => constants.get(input.node))));
    }
    return constants.get(output.node)!;
  }

  node(op: string, inputs: Output[], shape: readonly number[], attrs: readonly Attr[] = []): Output {
    return this.made({ op, attrs, inputs, outputs: [{ dtype: dtypeOf(inputs[0]!), shape: [...shape] }] });
  }

  /** One of the lab's ops, its lists empty: its first output. */
  native<N extends OpName>(name: N, inputs: InputsOf<N, Output>, shape: readonly number[], attrs: AttrsOf<N>): Output {
    const named = inputs as unknown as Record<string, Output>;
    return this.node(
      name,
      inputNames(name).map(input => named[input]!),
      shape,
      attrsOf(this.binding, name, attrs),
    );
  }

  /** The same operation, with the same outputs. */
  copy(original: Node, inputs: Output[], attrs: readonly Attr[]): Output {
    return this.made({ ...original, inputs, attrs });
  }

  private made(node: Node): Output {
    for (const input of node.inputs) if (!this.uses.has(input.node)) this.uses.set(input.node, 1); // just made too, for this one
    return { node, index: 0 };
  }

  reshape(x: Output, shape: readonly number[]): Output {
    const { TF_INT32 } = this.binding;
    const dims: Node = {
      op: 'Const',
      attrs: [],
      inputs: [],
      outputs: [{ dtype: TF_INT32, shape: [shape.length] }],
      values: Int32Array.from(shape),
    };
    return this.node('Reshape', [x, { node: dims, index: 0 }], shape);
  }
}

/** The inputs of one of the lab's ops by name, but for its lists; undefined for another op. */
function inputsOf<N extends OpName>(name: N, node: Node | undefined): InputsOf<N, Output> | undefined {
  if (node?.op !== name) return undefined;
  return Object.fromEntries(inputNames(name).map((input, i) => [input, node.inputs[i]!])) as InputsOf<N, Output>;
}

const addsBias = (node: Node) => node.op === 'BiasAdd' || node.op === 'LabBiasGelu';

/** A matmul, its bias and its activation in one kernel. */
const fuseProduct: Rule = (node, graph) => {
  if (!addsBias(node)) return undefined;
  const [x, bias] = node.inputs as [Output, Output];
  const product = graph.onlyUse(x);
  if (product?.op !== 'MatMul' || isTransposed(product)) return undefined;
  const [rows, weight] = product.inputs as [Output, Output];
  return graph.native('LabProduct', { x: rows, weight, bias }, shapeOf(x), {
    gelu: node.op === 'LabBiasGelu',
    constant_weight: graph.isConstant(weight) && graph.isConstant(bias),
  });
};

const isTransposed = (product: Node) => product.attrs.some(({ name, value }) => name.startsWith('transpose') && value);

/** How many inputs a kernel's list has; `attr` counts them. */
const listed = ({ attrs }: Node, attr: string) => attrs.find(({ name }) => name === attr)?.value;
const withListed = (attrs: readonly Attr[], attr: string, count: number): Attr[] =>
  attrs.map(other => (other.name === attr ? { ...other, value: count } : other));

/** Drop path of a gradient, dy · scale for each image, in the kernel of the gradient of what was scaled. */
const fuseScale: Rule = (node, graph) => {
  if (listed(node, 'scales') !== 0) return undefined;
  const [dy, ...others] = node.inputs as [Output, ...Output[]];
  const reshape = graph.onlyUse(dy);
  const scaled = reshape?.op === 'Reshape' ? graph.onlyUse(reshape.inputs[0]!) : undefined;
  if (scaled?.op !== 'Mul') return undefined;
  const [gradient, scale] = scaled.inputs as [Output, Output];
  const [pictures, ...rest] = shapeOf(scale);
  if (
    shapeOf(gradient).join() !== scaled.outputs[0]!.shape.join() ||
    pictures !== shapeOf(gradient)[0] ||
    rest.length !== shapeOf(gradient).length - 1 ||
    rest.some(size => size !== 1) ||
    shapeOf(dy)[0]! % pictures!
  )
    return undefined;
  return graph.copy(
    node,
    [graph.reshape(gradient, shapeOf(dy)), ...others, graph.reshape(scale, [pictures!])],
    withListed(node.attrs, 'scales', 1),
  );
};

/**
 * Batch norm before a matmul, in inference: (x · scale + shift) W + b = x (scale W) + (shift W + b), where scale, shift and
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
  if (shapeOf(scaled.inputs[0]!).join() !== shapeOf({ node: sum, index: 0 }).join()) return undefined; // broadcast
  const [from, to] = shapeOf(weight) as [number, number];
  if (
    ![shift, scale, weight].every(value => graph.isConstant(value)) ||
    ![shift, scale].every(value => shapeOf(value).join() === String(from))
  )
    return undefined;
  const folded = graph.node('Mul', [weight, graph.reshape(scale, [from, 1])], [from, to]);
  const shifted = graph.reshape(graph.node('MatMul', [graph.reshape(shift, [1, from]), weight], [1, to]), [to]);
  const { shape } = node.outputs[0]!;
  return graph.node(
    node.op,
    [
      graph.node('MatMul', [graph.reshape(scaled.inputs[0]!, shapeOf(rows)), folded], shape),
      graph.node('AddV2', [shifted, bias], [to]),
    ],
    shape,
    node.attrs,
  );
};

/** x + depthwiseConv(x): one more in the middle of the kernel. */
const foldSkip: Rule = (node, graph) => {
  if (node.op !== 'AddV2') return undefined;
  const [x, branch] = node.inputs as [Output, Output];
  const conv = inputsOf('LabDepthwiseConv', graph.onlyUse(branch));
  if (conv?.x.node !== x.node || conv.x.index !== x.index) return undefined;
  const { kernel, bias } = conv;
  const shape = shapeOf(kernel);
  const channels = shape[2]!;
  const middle = new Float32Array(shape[0]! * shape[1]! * channels).fill(
    1,
    (channels * (shape[0]! * shape[1]! - 1)) / 2,
    (channels * (shape[0]! * shape[1]! + 1)) / 2,
  );
  const identity: Node = {
    op: 'Const',
    attrs: [],
    inputs: [],
    outputs: [{ dtype: dtypeOf(kernel), shape }],
    values: middle,
  };
  return graph.native(
    'LabDepthwiseConv',
    { x, kernel: graph.node('AddV2', [kernel, { node: identity, index: 0 }], shape), bias },
    shapeOf(x),
    {},
  );
};

/** A reshape of a reshape is one reshape; one that changes nothing is none. */
const mergeReshapes: Rule = (node, graph) => {
  if (node.op !== 'Reshape') return undefined;
  const { shape } = node.outputs[0]!;
  const input = node.inputs[0]!;
  if (shapeOf(input).join() === shape.join()) return input;
  return input.node.op === 'Reshape' ? graph.reshape(input.node.inputs[0]!, shape) : undefined;
};

/** tfjs casts to bool what is bool already, in the gradient of each clip say. */
const dropCast: Rule = node =>
  node.op === 'Cast' && dtypeOf(node.inputs[0]!) === node.outputs[0]!.dtype ? node.inputs[0] : undefined;

const RULES: readonly Rule[] = [mergeReshapes, dropCast, foldBatchNorm, fuseProduct, fuseScale, foldSkip];

type Draft = { -readonly [key in keyof Node]: Node[key] };

/**
 * Sums of which one side comes from a kernel that can add to its first output before it stores it, in that kernel: the residuals, forward and
 * backward. Such a kernel has a list `join`: what is added and, where a branch has drop path, its factor for each image. No `Rule`, because the
 * kernels have more outputs than that, and who reads those must read the new kernel's.
 */
function joinSums(binding: Binding, graph: Graph): Graph {
  const drafts = new Map<Node, Draft>([...graph.inputs, ...reachable(graph.outputs)].map(node => [node, { ...node }]));
  const draftOf = ({ node, index }: Output): Output => ({ node: drafts.get(node)!, index });
  for (const draft of drafts.values()) draft.inputs = draft.inputs.map(draftOf);
  const outputs = graph.outputs.map(draftOf);

  const reads = new Map<Node, number[]>();
  for (const { node, index } of [...outputs, ...[...drafts.values()].flatMap(draft => draft.inputs)]) {
    const counts = reads.get(node) ?? [];
    counts[index] = (counts[index] ?? 0) + 1;
    reads.set(node, counts);
  }
  const isReadOnce = ({ node, index }: Output) => reads.get(node)?.[index] === 1;
  /** The kernel whose first output this is, perhaps reshaped, if nothing else reads it and it can take so many inputs more. */
  const joinable = (branch: Output, inputs: number): Draft | undefined => {
    const source = branch.node.op === 'Reshape' ? branch.node.inputs[0]! : branch;
    if (!isReadOnce(branch) || !isReadOnce(source) || source.index !== 0) return undefined;
    return listed(source.node, 'joins') === 0 && longestList(source.node.op, 'join') >= inputs
      ? source.node
      : undefined;
  };
  const dims = (shape: readonly number[]): Output => ({
    node: {
      op: 'Const',
      attrs: [],
      inputs: [],
      outputs: [{ dtype: binding.TF_INT32, shape: [shape.length] }],
      values: Int32Array.from(shape),
    },
    index: 0,
  });

  // A node can need only what stands before it in some order, which few joined sums change.
  let places = placesOf(outputs);
  const place = (node: Node) => places.get(node) ?? -1; // a constant made here needs nothing
  const needs = ({ node }: Output, kernel: Node): boolean => {
    if (place(node) < place(kernel)) return false;
    return reachable([{ node, index: 0 }], other => place(other) < place(kernel)).includes(kernel);
  };

  for (const sum of drafts.values()) {
    if (sum.op !== 'AddV2' && sum.op !== 'LabAddScaled') continue;
    const { dtype, shape } = sum.outputs[0]!;
    const [first, second, ...scale] = sum.inputs as [Output, Output, ...Output[]];
    for (const [x, branch] of sum.op === 'AddV2'
      ? ([
          [first, second],
          [second, first],
        ] as const)
      : ([[first, second]] as const)) {
      const kernel = joinable(branch, 1 + scale.length);
      if (
        !kernel ||
        [x, branch].some(value => shapeOf(value).join() !== shape.join()) ||
        scale.some(factors => kernel.outputs[0]!.shape[0]! % shapeOf(factors)[0]!) ||
        needs(x, kernel)
      )
        continue;
      const rows = kernel.outputs[0]!.shape;
      const joined: Node = { op: 'Reshape', attrs: [], inputs: [x, dims(rows)], outputs: [{ dtype, shape: rows }] };
      kernel.inputs = [...kernel.inputs, { node: joined, index: 0 }, ...scale];
      kernel.attrs = withListed(kernel.attrs, 'joins', 1 + scale.length);
      Object.assign(sum, { op: 'Reshape', attrs: [], inputs: [{ node: kernel, index: 0 }, dims(shape)] });
      if (place(x.node) > place(kernel)) places = placesOf(outputs);
      break;
    }
  }
  return { inputs: graph.inputs.map(node => drafts.get(node)!), outputs };
}

const placesOf = (outputs: readonly Output[]) => new Map(reachable(outputs).map((node, place) => [node, place]));

/** The graph in fewer kernels: rewritten by the rules, then with sums joined to what they add. */
export function simplify(binding: Binding, graph: Graph): Graph {
  return rewrite(binding, joinSums(binding, rewrite(binding, graph, RULES)), [mergeReshapes]);
}

/** By the rules, from the graph's inputs to its outputs, each node until none applies. */
export function rewrite(binding: Binding, graph: Graph, rules: readonly Rule[]): Graph {
  const rewriting = new Rewriting(binding, graph);
  const replacements = new Map<Node, Output>();
  // Rules replace nodes of one output, and a copy keeps its outputs' order: the indices add up.
  const follow = (output: Output): Output => {
    const replacement = replacements.get(output.node);
    return replacement ? { node: replacement.node, index: replacement.index + output.index } : output;
  };
  const apply = (node: Node): Output | undefined => {
    for (const rule of rules) {
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
