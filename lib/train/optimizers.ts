import type { ParamSpec, Params } from '../model/module';
import { ops } from '../tensor/ops';
import { type Scalar, type Tensor, tf } from '../tensor/tf';
import { power } from '../util/power';

/** Optimizers as pure functions, by PyTorch's update rules, so that a whole training step is one traceable function. */

export type OptimizerName = 'adam' | 'adamw' | 'sgd';

export interface OptimizerSettings {
  optimizer: OptimizerName;
  /** Decoupled for AdamW (Loshchilov & Hutter 2019), added to the gradient for Adam and SGD, as in PyTorch. */
  weightDecay: number;
  /** SGD's. */
  momentum: number;
  /** Adam's and AdamW's. */
  beta1: number;
  beta2: number;
  epsilon: number;
}

/** Slot name → parameter name → tensor. */
export type Slots = Record<string, Params>;

export interface Optimizer {
  /** What it remembers of every parameter, under PyTorch's names: Adam's `exp_avg` and `exp_avg_sq`, SGD's `momentum_buffer`. */
  slots: readonly string[];
  /**
   * What changes from step to step, for step `step` (from 1). Computed by the host in float64, because 1 − β₂ᵗ keeps only
   * four digits in float32 at the first steps.
   */
  scalars(step: number, learningRate: number): Record<string, number>;
  /** New parameters and slots (same names and shapes). The arguments stay the caller's. */
  update(
    params: Params,
    grads: Params,
    slots: Slots,
    scalars: Record<string, Scalar>,
  ): { params: Params; slots: Slots };
}

/**
 * Whether weight decay applies to a parameter: to matrices and kernels, not to biases and norms (timm's rule, which the
 * official code uses), nor to ViT's tokens. The official `no_weight_decay()` names parameters that do not exist, so
 * EdgeViT's depthwise position embeddings are decayed.
 */
export function isDecayed(param: ParamSpec): boolean {
  return param.kind !== 'plain';
}

/** The optimizer of some parameters. `scales` multiply the learning rate for some of them (1 where a name isn't there). */
export function createOptimizer(
  settings: OptimizerSettings,
  params: readonly ParamSpec[],
  scales: ReadonlyMap<string, number> = new Map(),
): Optimizer {
  const decayed = new Set(settings.weightDecay > 0 ? params.filter(isDecayed).map(param => param.name) : []);
  const rates = ratesOf(params, scales);
  return settings.optimizer === 'sgd' ? sgd(settings, decayed, rates) : adam(settings, decayed, rates);
}

/** The learning rates that there are beside each other, and which one a parameter has. */
interface Rates {
  /** Each once. */
  scales: readonly number[];
  /** What the host calls a scalar that goes with the learning rate: its plain name at a scale of 1. */
  key(scalar: string, scale: number): string;
  /** That of a parameter. */
  of(name: string): number;
}

function ratesOf(params: readonly ParamSpec[], given: ReadonlyMap<string, number>): Rates {
  const of = (name: string): number => given.get(name) ?? 1;
  return {
    scales: [...new Set(params.map(({ name }) => of(name)))],
    key: (scalar, scale) => (scale === 1 ? scalar : `${scalar}_${scale}`),
    of,
  };
}

/** torch.optim.SGD: v ← momentum · v + g; p ← p − lr · v. */
function sgd(
  { momentum, weightDecay }: OptimizerSettings,
  decayed: ReadonlySet<string>,
  { scales, key, of }: Rates,
): Optimizer {
  return {
    slots: ['momentum_buffer'],
    scalars: (_step, lr) => Object.fromEntries(scales.map(scale => [key('lr', scale), scale * lr])),
    update: (params, grads, { momentum_buffer: buffers }, scalars) =>
      updateEach(params, (p, name) => {
        const v = tf.add(
          tf.mul(buffers[name], momentum),
          decayed.has(name) ? withL2(grads[name], p, weightDecay) : grads[name],
        );
        return { param: tf.sub(p, tf.mul(v, scalars[key('lr', of(name))])), slots: { momentum_buffer: v } };
      }),
  };
}

/**
 * torch.optim.Adam and AdamW (Kingma & Ba 2015). With c₁ = 1 − β₁ᵗ and c₂ = √(1 − β₂ᵗ), PyTorch's
 * p − lr/c₁ · m / (√v/c₂ + ε) is written p − (lr c₂/c₁) · m / (√v + ε c₂): one pass over each parameter less.
 */
function adam(
  { optimizer, beta1, beta2, epsilon, weightDecay }: OptimizerSettings,
  decayed: ReadonlySet<string>,
  { scales, key, of }: Rates,
): Optimizer {
  const decoupled = optimizer === 'adamw';
  return {
    slots: ['exp_avg', 'exp_avg_sq'],
    scalars(step, lr) {
      const c1 = 1 - power(beta1, step);
      const c2 = Math.sqrt(1 - power(beta2, step));
      const own = scales.map(scale => ({
        [key('step', scale)]: (scale * lr * c2) / c1,
        [key('keep', scale)]: decoupled ? 1 - scale * lr * weightDecay : 1,
      }));
      return Object.assign({ epsilon: epsilon * c2 }, ...own);
    },
    update(params, grads, { exp_avg: means, exp_avg_sq: squares }, host) {
      const all = tf.scalar(1);
      return updateEach(params, (p, name) => {
        const grad = decayed.has(name) && !decoupled ? withL2(grads[name], p, weightDecay) : grads[name];
        const scale = of(name);
        const scalars = {
          step: host[key('step', scale)],
          epsilon: host.epsilon,
          keep: decayed.has(name) ? host[key('keep', scale)] : all,
        };
        const { param, mean, square } = ops.adam(
          { param: p, mean: means[name], square: squares[name] },
          grad,
          { beta1, beta2 },
          scalars,
        );
        return { param, slots: { exp_avg: mean, exp_avg_sq: square } };
      });
    },
  };
}

function withL2(grad: Tensor, param: Tensor, weightDecay: number): Tensor {
  return tf.add(grad, tf.mul(param, weightDecay));
}

function updateEach(
  params: Params,
  rule: (param: Tensor, name: string) => { param: Tensor; slots: Params },
): { params: Params; slots: Slots } {
  const next: { params: Params; slots: Slots } = { params: {}, slots: {} };
  for (const [name, param] of Object.entries(params)) {
    const updated = rule(param, name);
    next.params[name] = updated.param;
    for (const [slot, value] of Object.entries(updated.slots)) (next.slots[slot] ??= {})[name] = value;
  }
  return next;
}

/** Scales all gradients so that their joint L2 norm is at most `limit` (torch.nn.utils.clip_grad_norm_, its 1e-6 included). */
export function clipByGlobalNorm(grads: Params, limit: number): Params {
  const norm = tf.sqrt(tf.addN(Object.values(grads).map(grad => tf.sum(tf.square(grad)))));
  const scale = tf.minimum(tf.div(limit, tf.add(norm, 1e-6)), 1);
  return Object.fromEntries(Object.entries(grads).map(([name, grad]) => [name, tf.mul(grad, scale)]));
}

/** Exponential moving average: decay · average + (1 − decay) · value, for every name (timm's ModelEma, which averages batch-norm statistics too). */
export function movingAverage(average: Params, value: Params, decay: number): Params {
  return Object.fromEntries(
    Object.entries(average).map(([name, old]) => [name, tf.add(tf.mul(old, decay), tf.mul(value[name], 1 - decay))]),
  );
}
