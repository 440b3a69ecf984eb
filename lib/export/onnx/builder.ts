import type { Attribute, Initializer, OnnxNode } from './graph';

/** Channels last is TensorFlow's layout of an image, channels first that of ONNX's convolutions. */
export type Layout = 'last' | 'first';

const TO_FIRST = [0, 3, 1, 2];
const TO_LAST = [0, 2, 3, 1];

/** A layer that is linear in its input, as far as a scale and a shift of its outputs can be taken into its weights. */
export interface Linear {
  /** The same layer with other weights; `add` is its bias, one value for each output channel. */
  emit(weight: Float32Array, add?: Float32Array): Value;
  weight: Float32Array;
  add?: Float32Array;
  /** The output channel of a weight's element. */
  channelOf(index: number): number;
  channels: number;
}

/** What a value is known to be beside its name, from which later ops are written in another way. */
export interface Origin {
  /** A reshape of this value. */
  viewOf?: Value;
  /** The output of such a layer. */
  linear?: Linear;
  /** x · scale + shift per channel. */
  affine?: { x: Value; scale: Float32Array; shift: Float32Array };
  /** The s×s windows of x, [b, h/s, s, w/s, s·c] with the middle axes exchanged. */
  windows?: { x: Value; side: number };
  /** x with zeros around it: [top, left, bottom, right]. */
  padded?: { x: Value; pads: number[] };
  constant?: Initializer;
}

/** A tensor of the graph, of a shape in TensorFlow's layout (−1 is a size that the batch decides), and what names it has by layout. */
export class Value {
  constructor(
    readonly shape: readonly number[],
    readonly names: Partial<Record<Layout, string>>,
    readonly origin: Origin = {},
  ) {}

  get rank(): number {
    return this.shape.length;
  }

  get channels(): number {
    return this.shape[this.shape.length - 1]!;
  }
}

/** Writes nodes. What proves to be unneeded is left out in the end (`withoutDeadNodes`). */
export class Builder {
  readonly nodes: OnnxNode[] = [];
  readonly initializers = new Map<string, Initializer>();

  constructor(readonly opset: number) {}

  node(op: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}, count = 1): string[] {
    const base = `${op}_${this.nodes.length}`;
    const outputs = Array.from({ length: count }, (_, i) => (i === 0 ? base : `${base}_${i}`));
    this.nodes.push({ op, inputs, outputs, attributes });
    return outputs;
  }

  one(op: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    return this.node(op, inputs, attributes)[0]!;
  }

  initializer(initializer: Initializer): string {
    const name = `constant_${this.initializers.size}`;
    this.initializers.set(name, initializer);
    return name;
  }

  floats(data: Float32Array, shape: readonly number[]): string {
    return this.initializer({ type: 'float32', shape, data });
  }

  integers(values: readonly (number | bigint)[], shape: readonly number[] = [values.length]): string {
    return this.initializer({ type: 'int64', shape, data: BigInt64Array.from(values, BigInt) });
  }

  /** The name of a value in a layout, transposed once where it has only the other. */
  name(value: Value, layout: Layout = 'last'): string {
    const there = value.names[layout];
    if (there !== undefined) return there;
    if (value.origin.constant) {
      return (value.names.last = this.initializer(value.origin.constant));
    }
    const [from, perm] = layout === 'last' ? (['first', TO_LAST] as const) : (['last', TO_FIRST] as const);
    return (value.names[layout] = this.one('Transpose', [value.names[from]!], { perm }));
  }

  /** The layout in which most of the values lie already; convolutions' where that is undecided. */
  layoutOf(values: readonly Value[]): Layout {
    if (values.some(({ rank }) => rank !== 4)) return 'last';
    const missing = (layout: Layout) => values.filter(({ names }) => names[layout] === undefined).length;
    return missing('first') < missing('last') ? 'first' : 'last';
  }

  reshape(value: Value, shape: readonly number[]): Value {
    const base = value.origin.viewOf ?? value;
    if (sameShape(base.shape, shape)) return base;
    if (shape.filter(size => size < 0).length > 1)
      throw new Error(`A reshape to [${shape.join(', ')}] has more than one size that the batch decides.`);
    const { affine, windows } = base.origin;
    const name = this.one('Reshape', [this.name(base), this.integers(shape)]);
    return new Value(shape, { last: name }, { viewOf: base, affine, windows });
  }
}

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, i) => size === b[i]);
