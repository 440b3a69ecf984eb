import { compile } from '../engine/compile/compile';
import { type BlockConfig, globalSparseAttn, lglBlock, localAgg, patchEmbed, selfAttn } from '../model/blocks';
import { type EdgeViTConfig, type PerStage, VARIANTS } from '../model/config';
import { checkEdgeViT, edgeViT } from '../model/edgevit';
import {
  type Buffers,
  defineModel,
  type Layer,
  type Model,
  type ParamSpec,
  type Params,
  type Part,
  type Scope,
} from '../model/module';
import { fromTorch, toChannelsFirst, toChannelsLast, torchShape, toTorch } from '../tensor/layout';
import { type Scalar, type Tensor, tf } from '../tensor/tf';
import { UserError } from '../util/errors';
import { mapRecord } from '../util/records';
import type { BlockFixtureConfig, ModelFixtureConfig } from './fixture';
import { ruleTensor } from './rule';

/** From a fixture to a run of ours and back: built by its configuration, loaded by the rule, results on the host in PyTorch's order. */

/** EdgeViT as a fixture of the official code describes it. */
export function officialModel(
  name: string,
  fixture: ModelFixtureConfig,
  [, , height, width]: readonly number[],
): Model {
  const config: EdgeViTConfig = {
    ...VARIANTS['edgevit-xxs'],
    depths: fixture.depth,
    dims: fixture.embed_dim,
    heads: fixture.embed_dim.map(dim => dim / fixture.head_dim) as unknown as PerStage<number>,
    sampleRates: fixture.sr_ratios,
    localAgg: fixture.sr_ratios.map(rate => rate > 1) as unknown as PerStage<boolean>, // the official code's condition
    mlpRatio: fixture.mlp_ratio,
    qkvBias: fixture.qkv_bias,
    dropPath: 0,
  };
  checkEdgeViT(name, config, [height, width]);
  return defineModel({ name, config, numClasses: fixture.num_classes, inputSize: [height, width] }, scope =>
    edgeViT(scope, config, fixture.num_classes),
  );
}

/** A block as a fixture describes it. Throws UserError where the fixture lacks what its type needs. */
export function officialBlock(fixture: BlockFixtureConfig): (scope: Scope) => Layer {
  const need = (key: keyof BlockFixtureConfig): number => {
    const value = fixture[key];
    if (typeof value !== 'number') throw new UserError(`The fixture's ${fixture.type} has no '${String(key)}'.`);
    return value;
  };
  const official = VARIANTS['edgevit-xxs'];
  const normEps = fixture.gsa_ln_eps ?? fixture.ln_eps ?? official.normEps;
  if (fixture.type === 'PatchEmbed') {
    return scope =>
      patchEmbed(scope, need('in_chans'), need('embed_dim'), need('patch'), { norm: 'layer', bias: true, normEps });
  }
  const { depths, dims, heads, sampleRates, localAgg: _, ...shared } = official;
  const sampleRate = fixture.type === 'LocalAgg' ? 1 : need('sr_ratio');
  const config: BlockConfig = {
    ...shared,
    dim: need('dim'),
    heads: fixture.type === 'LocalAgg' ? 1 : need('num_heads'),
    sampleRate,
    localAgg: fixture.local_agg ?? sampleRate > 1,
    mlpRatio: fixture.mlp_ratio ?? shared.mlpRatio,
    qkvBias: fixture.qkv_bias ?? shared.qkvBias,
    dropPath: 0,
    normEps,
    blockNormEps: fixture.block_ln_eps ?? shared.blockNormEps,
    batchNormEps: fixture.bn_eps ?? shared.batchNormEps,
  };
  const builders = { LocalAgg: localAgg, GlobalSparseAttn: globalSparseAttn, SelfAttn: selfAttn, LGLBlock: lglBlock };
  const build = builders[fixture.type];
  if (fixture.type !== 'GlobalSparseAttn') return scope => build(scope, config);
  // The official one takes and gives tokens [b, n, c], ours their grid.
  return scope => {
    const attend = build(scope, config);
    return (x, ctx) => tf.reshape(attend(tf.reshape(x, [-1, need('H'), need('W'), config.dim]), ctx), x.shape);
  };
}

/** A model's forward pass under a part's name for its result. */
export function asPart(model: Model): Part {
  return {
    ...model,
    forward(...args) {
      const { logits, buffers } = model.forward(...args);
      return { output: logits, buffers };
    },
  };
}

/** The weights and statistics that the rule gives to a part. The caller disposes. */
export function ruleState(
  part: Pick<Part, 'params' | 'buffers'>,
  prefix: string,
): { params: Params; buffers: Buffers } {
  const load = (specs: readonly ParamSpec[]) =>
    Object.fromEntries(
      specs.map(spec => [
        spec.name,
        tf.tensor(fromTorch(spec, ruleTensor(prefix, spec.name, torchShape(spec))), spec.shape),
      ]),
    );
  return { params: load(part.params), buffers: load(part.buffers) };
}

/** The rule's `input` or `target`, of a shape of PyTorch's; images [b, c, h, w] become [b, h, w, c]. The caller disposes. */
export function ruleInput(prefix: string, name: string, shape: readonly number[]): Tensor {
  const values = ruleTensor(prefix, name, shape);
  if (shape.length !== 4) return tf.tensor(values, [...shape]);
  const [b, c, h, w] = shape;
  return tf.tensor(toChannelsLast(values, shape), [b, h, w, c]);
}

/** Values on the host, in PyTorch's order and shape. */
export interface HostTensor {
  shape: number[];
  values: Float32Array;
}

/** Reads a result and disposes it; images become [b, c, h, w]. */
export function toHost(tensor: Tensor): HostTensor {
  const values = tensor.dataSync<'float32'>();
  const { shape } = tensor;
  tensor.dispose();
  if (shape.length !== 4) return { shape, values };
  const [b, h, w, c] = shape;
  return { shape: [b, c, h, w], values: toChannelsFirst(values, shape) };
}

export interface Evaluation {
  output: HostTensor;
  /** Outputs of the modules asked for; `pooled` is what the head receives. */
  stages: Record<string, HostTensor>;
  buffers: Record<string, HostTensor>;
}

/** One compiled forward pass on weights and input by the rule. */
export function evaluate(
  part: Part,
  prefix: string,
  x: Tensor,
  train: boolean,
  stageNames: readonly string[] = [],
): Evaluation {
  const run = compile(
    (input: Tensor, params: Params, buffers: Buffers) =>
      tf.tidy(() => {
        const stages: Record<string, Tensor> = {};
        const tap = (layer: string, _kind: string, received: Tensor, output: Tensor) => {
          if (stageNames.includes(layer)) stages[layer] = tf.keep(output);
          if (layer === 'head' && stageNames.includes('pooled')) stages.pooled = tf.keep(received);
        };
        return { ...part.forward(input, params, buffers, { train, tap }), stages };
      }),
    { name: 'parity' },
  );
  const { params, buffers } = ruleState(part, prefix);
  const result = run(x, params, buffers);
  const host = {
    output: toHost(result.output),
    stages: mapRecord(result.stages, toHost),
    buffers: mapRecord(result.buffers, toHost),
  };
  run.dispose();
  tf.dispose([params, buffers]);
  return host;
}

export interface Differentiated {
  loss: number;
  output: HostTensor;
  buffers: Record<string, HostTensor>;
  gradInput: HostTensor;
  /** In PyTorch's layout. */
  grads: Record<string, Float32Array>;
}

/** One compiled forward and backward pass in training mode on weights by the rule. */
export function differentiate(part: Part, prefix: string, x: Tensor, loss: (output: Tensor) => Scalar): Differentiated {
  const names = part.params.map(spec => spec.name);
  const run = compile(
    (input: Tensor, params: Params, buffers: Buffers) =>
      tf.tidy(() => {
        // Beside the loss, kept because tfjs frees all but a differentiated function's result.
        let rest!: { output: Tensor; buffers: Buffers };
        const {
          value,
          grads: [gradInput, ...grads],
        } = tf.valueAndGrads((received, ...values) => {
          const { output, buffers: updated } = part.forward(received, zip(names, values), buffers, { train: true });
          rest = { output: tf.keep(output), buffers: mapRecord(updated, tf.keep) };
          return loss(output);
        })([input, ...names.map(name => params[name])]);
        return { ...rest, loss: value as Tensor, gradInput, grads: zip(names, grads) };
      }),
    { name: 'parity gradients' },
  );
  const { params, buffers } = ruleState(part, prefix);
  const result = run(x, params, buffers);
  const host = {
    loss: toHost(result.loss).values[0],
    output: toHost(result.output),
    buffers: mapRecord(result.buffers, toHost),
    gradInput: toHost(result.gradInput),
    grads: Object.fromEntries(
      part.params.map(spec => {
        const grad = result.grads[spec.name];
        const values = toTorch(spec, grad.dataSync<'float32'>());
        grad.dispose();
        return [spec.name, values];
      }),
    ),
  };
  run.dispose();
  tf.dispose([params, buffers]);
  return host;
}

const zip = <T>(names: readonly string[], values: readonly T[]): Record<string, T> =>
  Object.fromEntries(names.map((name, i) => [name, values[i]]));
