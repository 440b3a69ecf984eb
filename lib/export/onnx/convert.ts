import { nodeBackend } from '../../engine/binding';
import { dtypeOf, type Graph, type Node, reachable } from '../../engine/compile/ir';
import { Builder, type Layout, sameShape, Value } from './builder';
import { type Initializer, type OnnxGraph, withoutDeadNodes } from './graph';
import { convolution, dense, rescaled } from './linear';

export interface ConvertOptions {
  opset: number;
  /**
   * Whether layers that are matrices over channels may become convolutions where their input lies channels first, which is fastest in float32.
   * Without, they are all `MatMul`, which is what runtimes quantise.
   */
  convolutions?: boolean;
  /** What the outputs are called, in order (default: `logits`). */
  outputs?: readonly string[];
}

/** An op that has no counterpart here. */
class UnknownOp extends Error {
  override name = 'UnknownOp';
}

/**
 * A graph of `inferenceGraph` (fused) as ONNX: input `pixel_values` [batch, 3, h, w], output `logits` [batch, classes] and what else the graph gives. Batch norms are taken
 * into the layers beside them; images are transposed only where a convolution stands beside an op on channels.
 */
export function toOnnx(
  graph: Graph,
  name: string,
  { opset, convolutions = true, outputs = ['logits'] }: ConvertOptions,
): OnnxGraph {
  const conversion = new Conversion(new Builder(opset), convolutions);
  const { builder } = conversion;
  const values = new Map<Node, Value[]>();
  const [images] = graph.inputs as [Node];
  values.set(images, [new Value(images.outputs[0]!.shape, { first: 'pixel_values' })]);
  for (const node of reachable(graph.outputs)) {
    if (values.has(node)) continue;
    const inputs = node.inputs.map(input => values.get(input.node)![input.index]!);
    values.set(node, [conversion.convert(node, inputs)].flat());
  }
  const [, height, width] = images.outputs[0]!.shape as [number, number, number, number];
  const results = graph.outputs.map(({ node, index }, i) => {
    const value = values.get(node)![index]!;
    return { own: builder.name(value), given: outputs[i]!, shape: value.shape };
  });
  const given = new Map(results.map(({ own, given }) => [own, given]));
  const renamed = (names: readonly string[]): string[] => names.map(name => given.get(name) ?? name);
  return {
    name,
    opset,
    nodes: withoutDeadNodes(builder.nodes, [...given.keys()]).map(node => ({
      ...node,
      inputs: renamed(node.inputs),
      outputs: renamed(node.outputs),
    })),
    initializers: builder.initializers,
    inputs: [{ name: 'pixel_values', type: 'float32', shape: ['batch', 3, height, width] }],
    outputs: results.map(({ given, shape }) => ({
      name: given,
      type: 'float32',
      shape: shape.map(size => (size < 0 ? 'batch' : size)),
    })),
    metadata: {},
  };
}

const last = (shape: readonly number[]): number => shape[shape.length - 1]!;

/** float32 values per channel, where a constant is that. */
function perChannel({ origin: { constant } }: Value, channels: number): Float32Array | undefined {
  if (constant?.type !== 'float32') return undefined;
  const data = constant.data as Float32Array;
  if (data.length === channels && last(constant.shape) === channels) return data;
  return data.length === 1 ? new Float32Array(channels).fill(data[0]!) : undefined;
}

class Conversion {
  private readonly binding = nodeBackend().binding;

  constructor(
    readonly builder: Builder,
    private readonly asConvolution: boolean,
  ) {}

  convert(node: Node, inputs: readonly Value[]): Value | Value[] {
    if (node.values) return this.constant(node);
    const rule = RULES[node.op];
    if (!rule) throw new UnknownOp(`The op ${node.op} can't be exported to ONNX.`);
    return rule(this, node, inputs as readonly [Value, Value, Value]);
  }

  constant(node: Node): Value {
    const { shape } = node.outputs[0]!;
    const { TF_FLOAT, TF_INT32 } = this.binding;
    const dtype = dtypeOf({ node, index: 0 });
    if (dtype !== TF_FLOAT && dtype !== TF_INT32)
      throw new UnknownOp(`A constant of TensorFlow's type ${dtype} can't be exported to ONNX.`);
    // Sizes, which TensorFlow has as int32, are int64 in ONNX.
    const constant: Initializer =
      dtype === TF_FLOAT
        ? { type: 'float32', shape, data: node.values as Float32Array }
        : { type: 'int64', shape, data: BigInt64Array.from(node.values as Int32Array, BigInt) };
    return new Value(shape, {}, { constant });
  }

  attribute(node: Node, name: string): unknown {
    return node.attrs.find(attr => attr.name === name)?.value;
  }

  numbers(value: Value): number[] {
    const { constant } = value.origin;
    if (!constant) throw new UnknownOp('Axes and sizes that are computed can’t be exported to ONNX.');
    return Array.from(constant.data as BigInt64Array, Number);
  }

  /** An op on each value by itself. */
  elementwise(op: string, x: Value): Value {
    const base = x.origin.viewOf ?? x;
    const layout: Layout = base.names.last === undefined && base.rank === 4 ? 'first' : 'last';
    const y = new Value(base.shape, { [layout]: this.builder.one(op, [this.builder.name(base, layout)]) });
    return this.builder.reshape(y, x.shape);
  }

  binary(op: string, a: Value, b: Value, shape: readonly number[]): Value {
    const { builder } = this;
    const bases = [a, b].map(value => value.origin.viewOf ?? value) as [Value, Value];
    if (sameShape(bases[0].shape, bases[1].shape) && sameShape(a.shape, b.shape)) {
      const layout = builder.layoutOf(bases);
      const name = builder.one(op, [builder.name(bases[0], layout), builder.name(bases[1], layout)]);
      return builder.reshape(new Value(bases[0].shape, { [layout]: name }), shape);
    }
    for (const [i, constant] of [
      [0, b],
      [1, a],
    ] as const) {
      const base = bases[i];
      const values = perChannel(constant, base.channels);
      if (!values || base.origin.constant || base.channels !== last(shape)) continue;
      const layout: Layout = base.rank === 4 && base.names.last === undefined ? 'first' : 'last';
      const size =
        constant.origin.constant!.data.length === 1 ? [] : layout === 'first' ? [base.channels, 1, 1] : [base.channels];
      const operand = builder.floats(size.length === 0 ? values.slice(0, 1) : values, size);
      const names = [builder.name(base, layout), operand];
      const name = builder.one(op, i === 0 ? names : names.reverse());
      return builder.reshape(new Value(base.shape, { [layout]: name }), shape);
    }
    const layout = a.origin.constant || b.origin.constant ? 'last' : builder.layoutOf([a, b]);
    return new Value(shape, { [layout]: builder.one(op, [builder.name(a, layout), builder.name(b, layout)]) });
  }

  dense(x: Value, weight: Value, add?: Float32Array): Value {
    const { data } = weight.origin.constant!;
    return dense(this.builder, x, data as Float32Array, last(weight.shape), { asConvolution: this.asConvolution }, add);
  }
}

type Rule = (c: Conversion, node: Node, inputs: readonly [Value, Value, Value]) => Value | Value[];

const shapeOf = (node: Node): readonly number[] => node.outputs[0]!.shape;

/** x + shift, or x · scale, per channel: taken into the layer that x comes from, or noted for the one that follows. */
const affine =
  (op: 'Mul' | 'Add'): Rule =>
  (c, node, [a, b]) => {
    const shape = shapeOf(node);
    const [x, constant] = a.origin.constant ? [b, a] : [a, b];
    const values = x.origin.constant ? undefined : perChannel(constant, x.channels);
    if (!values || !sameShape(x.shape, shape)) return c.binary(op, a, b, shape);
    const { linear } = x.origin;
    if (linear) return op === 'Mul' ? rescaled(linear, values) : rescaled(linear, undefined, values);
    const y = c.binary(op, x, constant, shape);
    const before = x.origin.affine ?? {
      x,
      scale: new Float32Array(x.channels).fill(1),
      shift: new Float32Array(x.channels),
    };
    const by = (old: Float32Array) => (op === 'Mul' ? old.map((value, i) => value * values[i]!) : old);
    const shift = op === 'Mul' ? by(before.shift) : before.shift.map((value, i) => value + values[i]!);
    return new Value(y.shape, y.names, { ...y.origin, affine: { x: before.x, scale: by(before.scale), shift } });
  };

const gelu = (c: Conversion, x: Value): Value => {
  if (c.builder.opset >= 20) return c.elementwise('Gelu', x);
  const { builder } = c;
  const scalar = (value: number): Value =>
    new Value([], {}, { constant: { type: 'float32', shape: [], data: Float32Array.of(value) } });
  const erf = c.elementwise('Erf', c.binary('Mul', x, scalar(Math.SQRT1_2), x.shape));
  const half = c.binary('Mul', x, scalar(0.5), x.shape);
  return builder.reshape(c.binary('Mul', half, c.binary('Add', erf, scalar(1), x.shape), x.shape), x.shape);
};

const matmul =
  (transposes: readonly [string, string]): Rule =>
  (c, node, [a, b]) => {
    const { builder } = c;
    const [transposeA, transposeB] = transposes.map(name => c.attribute(node, name) === true);
    if (b.origin.constant && b.rank === 2 && !transposeA && !transposeB) return c.dense(a, b);
    const operand = (value: Value, transpose?: boolean): string => {
      const name = builder.name(value);
      const axes = value.shape.map((_, i) => i);
      return transpose
        ? builder.one('Transpose', [name], { perm: [...axes.slice(0, -2), axes.length - 1, axes.length - 2] })
        : name;
    };
    return new Value(shapeOf(node), { last: builder.one('MatMul', [operand(a, transposeA), operand(b, transposeB)]) });
  };

const bias: Rule = (c, node, [x, constant]) => {
  const values = perChannel(constant, x.channels)!;
  return x.origin.linear ? rescaled(x.origin.linear, undefined, values) : c.binary('Add', x, constant, shapeOf(node));
};

const convolve =
  (depthwise: boolean): Rule =>
  (c, node, [input, kernel]) => {
    const [, stride] = c.attribute(node, 'strides') as number[];
    const { data, shape } = kernel.origin.constant!;
    const same = c.attribute(node, 'padding') === 'SAME';
    const { x, pads } = !same && input.origin.padded ? input.origin.padded : { x: input, pads: [0, 0, 0, 0] };
    // TensorFlow's SAME: what is odd of the zeros stands behind.
    if (same)
      for (const axis of [0, 1] as const) {
        const side = x.shape[axis + 1]!;
        const zeros = Math.max(0, (Math.ceil(side / stride!) - 1) * stride! + shape[axis]! - side);
        pads.splice(axis, 1, Math.floor(zeros / 2));
        pads.splice(axis + 2, 1, Math.ceil(zeros / 2));
      }
    return convolution(c.builder, x, data as Float32Array, shape as [number, number, number, number], {
      stride: stride!,
      pads,
      depthwise,
    });
  };

const pool =
  (op: string): Rule =>
  (c, node, [x]) => {
    const [kernel, strides] = ['ksize', 'strides'].map(name => (c.attribute(node, name) as number[]).slice(1, 3));
    const name = c.builder.one(op, [c.builder.name(x, 'first')], { kernel_shape: kernel!, strides: strides! });
    return new Value(shapeOf(node), { first: name });
  };

const RULES: Record<string, Rule> = {
  Reshape: (c, node, [x]) => {
    // A constant that was reshaped is folded; sizes are known, or the only one that is not follows from the others.
    if (x.rank === 1 && x.shape[0] === 1 && shapeOf(node).length === 0)
      return new Value([], { last: c.builder.one('Squeeze', [c.builder.name(x)]) });
    return c.builder.reshape(x, shapeOf(node));
  },

  Transpose: (c, node, [x, axes]) => {
    const perm = c.numbers(axes);
    const name = c.builder.one('Transpose', [c.builder.name(x)], { perm });
    const shape = shapeOf(node);
    const image = x.origin.viewOf;
    const [, , side] = x.shape;
    const isWindows =
      perm.join() === '0,1,3,2,4' &&
      image?.rank === 4 &&
      image.channels * side! === x.shape[4] &&
      image.shape[1] === x.shape[1]! * side!;
    return new Value(shape, { last: name }, isWindows ? { windows: { x: image, side: side! } } : {});
  },

  MatMul: matmul(['transpose_a', 'transpose_b']),
  BatchMatMulV2: matmul(['adj_x', 'adj_y']),
  BiasAdd: bias,
  AddV2: affine('Add'),
  Mul: affine('Mul'),
  Sub: (c, node, [a, b]) => c.binary('Sub', a, b, shapeOf(node)),
  Square: (c, node, [x]) => c.binary('Mul', x, x, shapeOf(node)),
  Rsqrt: (c, _, [x]) => c.elementwise('Reciprocal', c.elementwise('Sqrt', x)),
  Relu6: (c, node, [x]) => {
    const base = x.origin.viewOf ?? x;
    const layout: Layout = base.names.last === undefined && base.rank === 4 ? 'first' : 'last';
    const bounds = [0, 6].map(bound => c.builder.floats(Float32Array.of(bound), []));
    const y = new Value(base.shape, { [layout]: c.builder.one('Clip', [c.builder.name(base, layout), ...bounds]) });
    return c.builder.reshape(y, shapeOf(node));
  },

  LabBiasGelu: (c, node, inputs) => gelu(c, [bias(c, node, inputs)].flat()[0]!),

  LabLayerNorm: (c, node, [x, weight, shift]) => {
    const { builder } = c;
    const names = [builder.name(x), builder.name(weight), builder.name(shift)];
    const epsilon = { float: c.attribute(node, 'eps') as number };
    return new Value(shapeOf(node), { last: builder.one('LayerNormalization', names, { axis: -1, epsilon }) });
  },

  LabDepthwiseConv: (c, _, [x, kernel, shift]) => {
    const { data, shape } = kernel.origin.constant!;
    const margin = (shape[0]! - 1) / 2;
    const options = { stride: 1, pads: [margin, margin, margin, margin], depthwise: true };
    const add = perChannel(shift, x.channels)!;
    return convolution(c.builder, x, data as Float32Array, shape as [number, number, number, number], options, add);
  },
  Conv2D: convolve(false),
  DepthwiseConv2dNative: convolve(true),

  PadV2: (c, node, [x, sides]) => {
    const amounts = c.numbers(sides); // [rank, 2]
    const pads = [0, 1].flatMap(end => amounts.filter((_, i) => i % 2 === end));
    const name = c.builder.one('Pad', [c.builder.name(x), c.builder.integers(pads)]);
    const isImage = x.rank === 4 && amounts[0] === 0 && amounts[1] === 0 && amounts[6] === 0 && amounts[7] === 0;
    const around = [amounts[2]!, amounts[4]!, amounts[3]!, amounts[5]!];
    return new Value(shapeOf(node), { last: name }, isImage ? { padded: { x, pads: around } } : {});
  },

  /** A delegate's result times the kernel, for each pixel of its window. Windows do not overlap: a broadcast product is enough. */
  LabLocalProp: (c, node, [x, kernel, shift]) => {
    const { builder } = c;
    const [, h, w, channels] = x.shape as [number, number, number, number];
    const [rate] = kernel.shape as [number];
    const weight = builder.floats(kernel.origin.constant!.data as Float32Array, [rate, 1, rate, channels]);
    const windows = builder.one('Mul', [builder.name(builder.reshape(x, [-1, h, 1, w, 1, channels])), weight]);
    const image = builder.one('Reshape', [windows, builder.integers([-1, h * rate, w * rate, channels])]);
    return new Value(shapeOf(node), { last: builder.one('Add', [image, builder.name(shift)]) });
  },

  LabAttention: (c, node, [qkv]) => {
    const { builder } = c;
    const heads = c.attribute(node, 'heads') as number;
    const [, n, dim] = shapeOf(node) as [number, number, number];
    const width = dim / heads;
    const parts = builder.node('Split', [builder.name(qkv), builder.integers([dim, dim, dim])], { axis: -1 }, 3);
    const split = (name: string, perm: readonly number[]): string =>
      builder.one('Transpose', [builder.one('Reshape', [name, builder.integers([-1, n, heads, width])])], { perm });
    const [q, k, v] = [split(parts[0]!, [0, 2, 1, 3]), split(parts[1]!, [0, 2, 3, 1]), split(parts[2]!, [0, 2, 1, 3])];
    const scale = builder.floats(Float32Array.of(c.attribute(node, 'scale') as number), []);
    const logits = builder.one('MatMul', [builder.one('Mul', [q, scale]), k]);
    const mixed = builder.one('MatMul', [builder.one('Softmax', [logits], { axis: -1 }), v]);
    const joined = builder.one('Transpose', [mixed], { perm: [0, 2, 1, 3] });
    return new Value(shapeOf(node), { last: builder.one('Reshape', [joined, builder.integers([-1, n, dim])]) });
  },

  Softmax: (c, node, [x]) =>
    new Value(shapeOf(node), { last: c.builder.one('Softmax', [c.builder.name(x)], { axis: -1 }) }),

  Mean: (c, node, [x, axes]) => {
    const { builder } = c;
    const source = x.origin.affine && sameShape(x.origin.affine.x.shape, x.shape) ? x.origin.affine.x : x;
    const layout = builder.layoutOf([source]);
    const numbers = c.numbers(axes).map(axis => (axis < 0 ? axis + x.rank : axis));
    const keeps = c.attribute(node, 'keep_dims') === true;
    const mapped = layout === 'first' ? numbers.map(axis => [0, 2, 3, 1][axis]!) : numbers;
    const isImage = layout === 'first' && keeps;
    if (layout === 'first' && !keeps && !(numbers.includes(1) && numbers.includes(2)))
      throw new UnknownOp('A mean over one side.');
    const input = builder.name(source, layout);
    const keepdims = keeps ? 1 : 0;
    const name =
      builder.opset >= 18
        ? builder.one('ReduceMean', [input, builder.integers(mapped)], { keepdims })
        : builder.one('ReduceMean', [input], { axes: mapped, keepdims });
    const mean = new Value(shapeOf(node), { [isImage ? 'first' : 'last']: name });
    // The mean of a norm's results is the norm of the mean, which is one pixel.
    if (source === x) return mean;
    const { scale, shift } = x.origin.affine!;
    const scaled = builder.one('Mul', [builder.name(mean), builder.floats(scale, [scale.length])]);
    const y = builder.one('Add', [scaled, builder.floats(shift, [shift.length])]);
    return new Value(mean.shape, { last: y }, { affine: { x: mean, scale, shift } });
  },

  AvgPool: pool('AveragePool'),
  MaxPool: pool('MaxPool'),

  Slice: (c, node, [x, begin]) => {
    const { builder } = c;
    const shape = shapeOf(node);
    const starts = c.numbers(begin);
    const image = x.origin.viewOf;
    const [, , side] = x.shape;
    const isTopLeft =
      x.rank === 5 &&
      starts.every(start => start === 0) &&
      image?.rank === 4 &&
      image.shape[1] === x.shape[1]! * side! &&
      x.shape[4] === image.channels * side! &&
      shape[2] === 1 &&
      shape[4] === image.channels;
    if (isTopLeft) {
      const layout = image.names.last === undefined ? 'first' : 'last';
      const axes = layout === 'first' ? [2, 3] : [1, 2];
      const operands = [[0, 0], image.shape.slice(1, 3), axes, [side!, side!]].map(values => builder.integers(values));
      const picked = new Value([shape[0]!, shape[1]!, shape[3]!, shape[4]!], {
        [layout]: builder.one('Slice', [builder.name(image, layout), ...operands]),
      });
      return builder.reshape(picked, shape);
    }
    const axes = shape.map((_, axis) => axis).filter(axis => !(starts[axis] === 0 && shape[axis] === x.shape[axis]));
    if (axes.some(axis => shape[axis]! < 0)) throw new UnknownOp('A slice of the batch.');
    const ends = axes.map(axis => starts[axis]! + shape[axis]!);
    const operands = [axes.map(axis => starts[axis]!), ends, axes].map(values => builder.integers(values));
    return new Value(shape, { last: builder.one('Slice', [builder.name(x), ...operands]) });
  },

  ConcatV2: (c, node, inputs) => {
    const parts = inputs.slice(0, -1).map(part => c.builder.name(part));
    const [axis] = c.numbers(inputs[inputs.length - 1]!);
    return new Value(shapeOf(node), { last: c.builder.one('Concat', parts, { axis: axis! }) });
  },

  Tile: (c, node, [x, times]) =>
    new Value(shapeOf(node), { last: c.builder.one('Tile', [c.builder.name(x), c.builder.name(times)]) }),

  Unpack: (c, node, [x]) =>
    node.outputs.map(({ shape }, i) => {
      const axis = c.attribute(node, 'axis') as number;
      return new Value(shape, {
        last: c.builder.one('Gather', [c.builder.name(x), c.builder.integers([i], [])], { axis }),
      });
    }),

  /** tfjs-node casts what it takes the mean of, float32 too. */
  Cast: (_, node, [x]) => {
    if (dtypeOf({ node, index: 0 }) !== dtypeOf(node.inputs[0]!)) throw new UnknownOp('A change of type.');
    return x;
  },

  /** Of the images: what sizes are computed from, int64 in ONNX. */
  Shape: (c, node, [x]) => {
    const order = x.names.last === undefined ? 'first' : 'last';
    if (order === 'last') return new Value(shapeOf(node), { last: c.builder.one('Shape', [c.builder.name(x)]) });
    const shape = c.builder.one('Shape', [c.builder.name(x, 'first')]);
    return new Value(shapeOf(node), { last: c.builder.one('Gather', [shape, c.builder.integers([0, 2, 3, 1])]) });
  },
};
