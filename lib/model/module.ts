import type { ParamKind } from '../tensor/layout';
import { type Tensor, tf } from '../tensor/tf';
import { UserError } from '../util/errors';
import { type Random, random } from '../util/random';

/** Trainable tensors, named as in the official PyTorch state dict, in TensorFlow's layout (see `ParamKind`). */
export type Params = Record<string, Tensor>;
/** Running statistics of the batch norms, under their official names. */
export type Buffers = Record<string, Tensor>;

/** How a parameter is initialised: uniform in ±bound, normal of a standard deviation, or one value. */
export type Init = { uniform: number } | { normal: number } | { constant: number };

export interface ParamSpec {
  name: string;
  shape: number[];
  kind: ParamKind;
  init: Init;
}

/** Called after each layer with its official name, its type, its input and its output; the tensors live only during the call. */
export type Tap = (layerName: string, kind: string, input: Tensor, output: Tensor) => void;

/** What a forward pass carries beside the activations. */
export interface Context {
  readonly params: Params;
  readonly buffers: Buffers;
  /** Batch statistics and drop path, or running statistics and none. */
  readonly train: boolean;
  /** [dropPathSites, b], uniform in [0, 1). */
  readonly noise?: Tensor;
  readonly tap?: Tap;
  /** Parameters that are not trained: a batch norm of theirs takes its running statistics, and keeps them. */
  readonly frozen?: ReadonlySet<string>;
  /** The running statistics after this pass; batch norms write here when training. */
  readonly updated: Buffers;
}

/** A step of the forward pass: a pure function of tensors. */
export type Layer = (x: Tensor, ctx: Context) => Tensor;

/**
 * Where a part of the network declares its parameters. A builder takes a scope, declares what it needs and returns
 * the `Layer` that uses it, so that declaration and computation stand together and no tensor exists before `init`.
 */
export interface Scope {
  /** Official name of the module, without the parameter: `blocks1.0.LocalAgg`. */
  readonly path: string;
  /** The scope of a submodule. */
  at(name: string): Scope;
  /** Declares a trainable parameter; the result reads it in a forward pass. */
  param(name: string, shape: number[], kind: ParamKind, init: Init): (ctx: Context) => Tensor;
  /** Declares running statistics of one value per channel; the result reads them, and the name writes them to `ctx.updated`. */
  buffer(name: string, channels: number, value: number): { name: string; read(ctx: Context): Tensor };
  /** Claims a row of the drop path noise. */
  dropPathSite(): number;
  /** Lets taps see the layer. `kind` is the type that `paddle.summary` prints: `Conv2D`, `Linear`, `LocalAgg`, … */
  layer(kind: string, compute: Layer): Layer;
}

/** A network as data: what it holds, how that starts, and one pure function. */
export interface Model<C extends object = object> {
  readonly name: string;
  /** Everything that `createModel` needs, beside name, classes and size, to build the same model again. */
  readonly config: C;
  readonly numClasses: number;
  /** [height, width] in pixels. */
  readonly inputSize: readonly [number, number];
  /** Trainable parameters in state-dict order. */
  readonly params: readonly ParamSpec[];
  /** Running statistics in state-dict order. */
  readonly buffers: readonly ParamSpec[];
  /** Rows of `noise`: residual branches whose drop rate is above 0. */
  readonly dropPathSites: number;
  /** Fresh parameters. Equal seeds give equal bytes, and equally named parameters of two models are equal. The caller disposes. */
  init(seed: string | number): { params: Params; buffers: Buffers };
  /**
   * x [b, h, w, 3] → logits [b, classes]. With `train`: batch statistics, drop path by `noise` [dropPathSites, b], and
   * the new running statistics in `buffers`; without: running statistics, and `buffers` as given. The caller disposes.
   * Throws UserError if the input has another size than the model.
   */
  forward(x: Tensor, params: Params, buffers: Buffers, options: ForwardOptions): { logits: Tensor; buffers: Buffers };
}

export interface ForwardOptions {
  train: boolean;
  noise?: Tensor;
  tap?: Tap;
  frozen?: ReadonlySet<string>;
}

/** A network, or a block of one: what it holds, and one pure function. */
export interface Part {
  readonly params: readonly ParamSpec[];
  readonly buffers: readonly ParamSpec[];
  readonly dropPathSites: number;
  /** As `Model.forward`, but with any input and output. */
  forward(x: Tensor, params: Params, buffers: Buffers, options: ForwardOptions): { output: Tensor; buffers: Buffers };
}

/** Runs a builder, collects what it declares, and makes a pure function of its layer. */
export function definePart(build: (scope: Scope) => Layer): Part {
  const params: ParamSpec[] = [];
  const buffers: ParamSpec[] = [];
  let dropPathSites = 0;
  const scope = (path: string): Scope => {
    const join = (name: string) => (path ? `${path}.${name}` : name);
    return {
      path,
      at: name => scope(join(name)),
      param(name, shape, kind, init) {
        const full = join(name);
        params.push({ name: full, shape, kind, init });
        return ctx => ctx.params[full];
      },
      buffer(name, channels, value) {
        const full = join(name);
        buffers.push({ name: full, shape: [channels], kind: 'plain', init: { constant: value } });
        return { name: full, read: ctx => ctx.buffers[full] };
      },
      dropPathSite: () => dropPathSites++,
      layer: (kind, compute) => (x, ctx) => {
        const y = compute(x, ctx);
        ctx.tap?.(path, kind, x, y);
        return y;
      },
    };
  };
  const layer = build(scope(''));
  return {
    params,
    buffers,
    dropPathSites,
    forward: (x, params, buffers, options) =>
      tf.tidy(() => {
        const updated = { ...buffers };
        return { output: layer(x, { params, buffers, updated, ...options }), buffers: updated };
      }),
  };
}

/** The model that a builder describes. */
export function defineModel<C extends object>(
  about: Pick<Model<C>, 'name' | 'config' | 'numClasses' | 'inputSize'>,
  build: (scope: Scope) => Layer,
): Model<C> {
  const { forward, ...declared } = definePart(build);
  const [height, width] = about.inputSize;
  return {
    ...about,
    ...declared,
    init(seed) {
      const rng = random(seed).fork('init');
      return { params: initialise(declared.params, rng), buffers: initialise(declared.buffers, rng) };
    },
    forward(x, params, buffers, options) {
      if (x.rank !== 4 || x.shape[1] !== height || x.shape[2] !== width || x.shape[3] !== 3) {
        throw new UserError(
          `${about.name} was built for images [batch, ${height}, ${width}, 3], but got [${x.shape.join(', ')}].`,
        );
      }
      const { output, buffers: updated } = forward(x, params, buffers, options);
      return { logits: output, buffers: updated };
    },
  };
}

/** Fresh tensors for specs, each from a stream named after its parameter, so that none depends on which others exist. */
export function initialise(specs: readonly ParamSpec[], rng: Random): Params {
  return Object.fromEntries(
    specs.map(spec => [spec.name, tf.tensor(draw(spec, rng.fork(spec.name)), spec.shape, 'float32')]),
  );
}

function draw({ shape, init }: ParamSpec, rng: Random): Float32Array {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  if ('constant' in init) return values.fill(init.constant);
  if ('uniform' in init) return values.map(() => init.uniform * (2 * rng.uniform() - 1));
  return values.map(() => init.normal * rng.normal());
}
