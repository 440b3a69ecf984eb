import { type Builder, type Layout, type Linear, sameShape, Value } from './builder';

/** A matrix over the channels of x [..., k] → [..., n]; a norm before it and the windows of a patch embedding are taken into it. */
export function dense(
  builder: Builder,
  x: Value,
  weight: Float32Array,
  outputs: number,
  options: { asConvolution: boolean },
  add?: Float32Array,
): Value {
  const inner = x.origin.viewOf ?? x;
  const inputs = x.channels;
  const { affine, windows } = x.origin;
  if (affine && affine.scale.length === inputs && !windows) {
    const scaled = weight.map((value, i) => value * affine.scale[Math.floor(i / outputs)]!);
    return denseOf(builder, x, affine.x, scaled, outputs, options, shifted(affine.shift, weight, outputs, add));
  }
  if (windows && options.asConvolution) {
    const { x: image, side } = windows;
    const y = convolution(builder, image, weight, [side, side, image.channels, outputs], { stride: side }, add);
    return viewed(builder, y, [...x.shape.slice(0, -1), outputs]);
  }
  return denseOf(builder, x, inner.channels === inputs ? inner : x, weight, outputs, options, add);
}

/** `shape` of the result is that of x, whose values `source` holds with the same channels. */
function denseOf(
  builder: Builder,
  x: Value,
  source: Value,
  weight: Float32Array,
  outputs: number,
  { asConvolution }: { asConvolution: boolean },
  add?: Float32Array,
): Value {
  const inner = source.origin.viewOf?.channels === source.channels ? source.origin.viewOf : source;
  const layout: Layout = asConvolution && inner.rank === 4 && inner.names.last === undefined ? 'first' : 'last';
  const emit = (weight: Float32Array, add?: Float32Array): Value => {
    const shape = [...inner.shape.slice(0, -1), outputs];
    const inputs = inner.channels;
    let name: string;
    if (layout === 'first') {
      const kernel = builder.floats(transposed(weight, inputs, outputs), [outputs, inputs, 1, 1]);
      const bias = add ? [builder.floats(add, [outputs])] : [];
      name = builder.one('Conv', [builder.name(inner, 'first'), kernel, ...bias], { kernel_shape: [1, 1] });
    } else {
      name = builder.one('MatMul', [builder.name(inner), builder.floats(weight, [inputs, outputs])]);
      if (add) name = builder.one('Add', [name, builder.floats(add, [outputs])]);
    }
    const linear: Linear = { emit, weight, add, channelOf: i => i % outputs, channels: outputs };
    return new Value(shape, { [layout]: name }, { linear });
  };
  return viewed(builder, emit(weight, add), [...x.shape.slice(0, -1), outputs]);
}

/** A layer's output in another shape, still known as that. */
function viewed(builder: Builder, y: Value, shape: readonly number[]): Value {
  if (sameShape(y.shape, shape)) return y;
  const linear = y.origin.linear!;
  const emit = (weight: Float32Array, add?: Float32Array): Value => viewed(builder, linear.emit(weight, add), shape);
  const view = builder.reshape(y, shape);
  return new Value(view.shape, view.names, { ...view.origin, linear: { ...linear, emit } });
}

/** shift · W + bias: what a matrix makes of a shift of its inputs. */
function shifted(shift: Float32Array, weight: Float32Array, outputs: number, add?: Float32Array): Float32Array {
  const sums = Float64Array.from({ length: outputs }, (_, o) => add?.[o] ?? 0);
  for (let i = 0; i < weight.length; i++) sums[i % outputs]! += shift[Math.floor(i / outputs)]! * weight[i]!;
  return Float32Array.from(sums);
}

export interface ConvolutionOptions {
  stride: number;
  /** Zeros: [top, left, bottom, right]. */
  pads?: readonly number[];
  depthwise?: boolean;
}

/** A convolution with a kernel [k, k, in, out], or [k, k, c, 1] of a depthwise one. */
export function convolution(
  builder: Builder,
  x: Value,
  weight: Float32Array,
  [height, width, inputs, multiplier]: readonly [number, number, number, number],
  { stride, pads = [0, 0, 0, 0], depthwise = false }: ConvolutionOptions,
  add?: Float32Array,
): Value {
  const outputs = depthwise ? inputs * multiplier : multiplier;
  const size = (axis: 1 | 2, kernel: number): number =>
    Math.floor((x.shape[axis]! + pads[axis - 1]! + pads[axis + 1]! - kernel) / stride) + 1;
  const shape = [x.shape[0]!, size(1, height), size(2, width), outputs];
  const emit = (weight: Float32Array, add?: Float32Array): Value => {
    const kernel = builder.floats(transposed(weight, height * width * (depthwise ? 1 : inputs), outputs), [
      outputs,
      depthwise ? 1 : inputs,
      height,
      width,
    ]);
    if (!depthwise) channelsBeforeTaps(builder, kernel, height * width, inputs, outputs);
    const bias = add ? [builder.floats(add, [outputs])] : [];
    const name = builder.one('Conv', [builder.name(x, 'first'), kernel, ...bias], {
      kernel_shape: [height, width],
      strides: [stride, stride],
      pads,
      group: depthwise ? inputs : 1,
    });
    const linear: Linear = { emit, weight, add, channelOf: i => i % outputs, channels: outputs };
    return new Value(shape, { first: name }, { linear });
  };
  return emit(weight, add);
}

/** [rows, columns] → [columns, rows]. */
function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) result[column * rows + row] = matrix[row * columns + column]!;
  return result;
}

/** Turns a kernel [out, taps, in] in place into ONNX's [out, in, taps]. */
function channelsBeforeTaps(builder: Builder, name: string, taps: number, inputs: number, outputs: number): void {
  const { data } = builder.initializers.get(name) as { data: Float32Array };
  for (let o = 0; o < outputs; o++) {
    const kernel = data.subarray(o * taps * inputs, (o + 1) * taps * inputs);
    kernel.set(transposed(kernel.slice(), taps, inputs));
  }
}

/** A layer with its outputs times `scale`, plus `shift`, per channel. */
export function rescaled(linear: Linear, scale?: Float32Array, shift?: Float32Array): Value {
  const weight = scale ? linear.weight.map((value, i) => value * scale[linear.channelOf(i)]!) : linear.weight;
  const old = linear.add ?? new Float32Array(linear.channels);
  return linear.emit(
    weight,
    old.map((value, c) => value * (scale?.[c] ?? 1) + (shift?.[c] ?? 0)),
  );
}
