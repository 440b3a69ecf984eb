/**
 * The border between TensorFlow's layout, in which everything here computes, and PyTorch's, in which checkpoints and
 * fixtures are written. All on the host: values in row-major order go in and come out.
 */

/**
 * What a parameter multiplies, and so its layout here (PyTorch's in brackets):
 * `conv` [kh, kw, in, out] ([out, in, kh, kw]), `depthwise` [kh, kw, c, 1] ([c, 1, kh, kw]),
 * `localProp` [r, r, c] ([c, 1, r, r]), `linear` [in, out] ([out, in]), `plain`: the same in both.
 */
export type ParamKind = 'conv' | 'depthwise' | 'localProp' | 'linear' | 'plain';

/** Which of our axes each PyTorch axis is; a localProp [r, r, c] counts as [r, r, c, 1]. */
const TORCH_AXES: Record<ParamKind, readonly number[] | undefined> = {
  conv: [3, 2, 0, 1],
  depthwise: [2, 3, 0, 1],
  localProp: [2, 3, 0, 1],
  linear: [1, 0],
  plain: undefined,
};

interface Described {
  readonly kind: ParamKind;
  readonly shape: readonly number[];
}

/** The shape of a parameter in PyTorch's state dict. */
export function torchShape(param: Described): number[] {
  const axes = TORCH_AXES[param.kind];
  return axes ? axes.map(axis => fullShape(param)[axis]) : [...param.shape];
}

/** A parameter's values from our order into PyTorch's. */
export function toTorch(param: Described, values: Float32Array): Float32Array {
  const axes = TORCH_AXES[param.kind];
  return axes ? permute(values, fullShape(param), axes) : values;
}

/** A parameter's values from PyTorch's order into ours. */
export function fromTorch(param: Described, values: Float32Array): Float32Array {
  const axes = TORCH_AXES[param.kind];
  return axes
    ? permute(
        values,
        torchShape(param),
        axes.map((_, ours) => axes.indexOf(ours)),
      )
    : values;
}

/** Images [b, c, h, w] → [b, h, w, c]. */
export function toChannelsLast(values: Float32Array, shape: readonly number[]): Float32Array {
  return permute(values, shape, [0, 2, 3, 1]);
}

/** Images [b, h, w, c] → [b, c, h, w]. */
export function toChannelsFirst(values: Float32Array, shape: readonly number[]): Float32Array {
  return permute(values, shape, [0, 3, 1, 2]);
}

function fullShape({ kind, shape }: Described): readonly number[] {
  return kind === 'localProp' ? [...shape, 1] : shape;
}

/** Reorders the axes of a row-major array: axis i of the result is axis `axes[i]` of `shape`. */
function permute(values: Float32Array, shape: readonly number[], axes: readonly number[]): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const result = new Float32Array(values.length);
  let at = 0;
  const copy = (depth: number, from: number): void => {
    const count = shape[axes[depth]];
    const stride = strides[axes[depth]];
    for (let i = 0; i < count; i++) {
      if (depth === axes.length - 1) result[at++] = values[from + i * stride];
      else copy(depth + 1, from + i * stride);
    }
  };
  copy(0, 0);
  return result;
}
