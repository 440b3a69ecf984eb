import { type Tensor, type Tensor4D, tf } from '../tensor/tf';
import type { EdgeViTConfig } from './config';
import {
  attention,
  batchNorm,
  conv2d,
  depthwiseConv,
  depthwiseTransposedConv,
  dropPath,
  expandAndShrink,
  groupNorm,
  layerNorm,
  linear,
  pointwiseConv,
  type Residual,
  sampleTopLeft,
  toTopLeft,
  upsampleBilinear,
  upsampleNearest,
} from './layers';
import type { Layer, Scope } from './module';

/** The configuration of one block: that of its stage. */
export type BlockConfig = Omit<EdgeViTConfig, 'depths' | 'dims' | 'heads' | 'sampleRates' | 'localAgg' | 'dropPath'> & {
  dim: number;
  heads: number;
  sampleRate: number;
  localAgg: boolean;
  /** Drop path rate of this block. */
  dropPath: number;
};

/**
 * [b, h, w, in] → [b, h/patch, w/patch, dim]: a convolution whose kernel is its stride, then a norm.
 * EdgeViTs (ECCV 2022) §3.1.
 */
export function patchEmbed(
  scope: Scope,
  inDim: number,
  dim: number,
  patch: number,
  config: Pick<EdgeViTConfig, 'norm' | 'normEps' | 'bias'>,
): Layer {
  const norm = tokenNorm(scope.at('norm'), dim, config);
  const proj = conv2d(scope.at('proj'), inDim, dim, patch, { stride: patch, padding: 0, bias: config.bias });
  return scope.layer('PatchEmbed', (x, ctx) => norm(proj(x, ctx), ctx));
}

/** The Local-Global-Local bottleneck: LocalAgg → GlobalSparseAttn → LocalProp. [b, h, w, c] → the same. §3.2, figure 2. */
export function lglBlock(scope: Scope, config: BlockConfig): Layer {
  const local = config.localAgg ? localAgg(scope.at('LocalAgg'), config) : undefined;
  const global = selfAttn(scope.at('SelfAttn'), config);
  return scope.layer('LGLBlock', (x, ctx) => global(local ? local(x, ctx) : x, ctx));
}

/**
 * Local aggregation: each pixel gathers its neighbourhood by depthwise and pointwise convolutions. [b, h, w, c] → the
 * same. No activation or norm stands between the three convolutions, as in the official code.
 */
export function localAgg(scope: Scope, config: BlockConfig): Layer {
  const { dim, bias } = config;
  const norms = { eps: config.batchNormEps };
  const posEmbed = depthwiseConv(scope.at('pos_embed'), dim, 3, { bias });
  const norm1 = batchNorm(scope.at('norm1'), dim, norms);
  const conv1 = conv2d(scope.at('conv1'), dim, dim, 1, { bias });
  const conv2 = conv2d(scope.at('conv2'), dim, dim, 1, { bias });
  const attn = depthwiseConv(scope.at('attn'), dim, config.localAggKernel, { bias });
  const attnNorm = config.localAggNorm ? batchNorm(scope.at('attn_norm'), dim, norms) : identity;
  const residual1 = dropPath(scope, config.dropPath);
  const norm2 = config.preNorm ? batchNorm(scope.at('norm2'), dim, norms) : identity;
  const mlp = feedForward(scope.at('mlp'), dim, config, 'CMlp');
  const residual2 = dropPath(scope, config.dropPath);
  return scope.layer('LocalAgg', (x, ctx) => {
    x = tf.add(x, posEmbed(x, ctx));
    x = residual1(x, conv2(attnNorm(attn(conv1(norm1(x, ctx), ctx), ctx), ctx), ctx), ctx);
    return residual2(x, mlp(norm2(x, ctx), ctx), ctx);
  });
}

/** Position encoding, global sparse attention, FFN: three residuals. [b, h, w, c] → the same. */
export function selfAttn(scope: Scope, config: BlockConfig): Layer {
  const { dim } = config;
  const preNorm = (name: string) => (config.preNorm ? layerNorm(scope.at(name), dim, config.blockNormEps) : identity);
  const posEmbed = depthwiseConv(scope.at('pos_embed'), dim, 3, { bias: config.bias });
  const attend = config.attention
    ? residual(preNorm('norm1'), globalSparseAttn(scope.at('attn'), config), dropPath(scope, config.dropPath))
    : identity;
  const feed = residual(
    preNorm('norm2'),
    feedForward(scope.at('mlp'), dim, config, 'Mlp'),
    dropPath(scope, config.dropPath),
  );
  return scope.layer('SelfAttn', (x, ctx) => feed(attend(tf.add(x, posEmbed(x, ctx)), ctx), ctx));
}

/**
 * Global sparse attention and local propagation: one delegate per r×r window attends to all others, and a transposed
 * convolution hands its result back to the window. [b, h, w, c] → the same; r divides h and w. With r = 1 every pixel
 * is its own delegate: full attention, and nothing to propagate.
 */
export function globalSparseAttn(scope: Scope, config: BlockConfig): Layer {
  const { dim, sampleRate, bias } = config;
  const attend = config.delegatesAttend ? selfAttention(scope, config) : identity;
  const proj = linear(scope.at('proj'), dim, dim, { bias });
  const sampler = sampleRate > 1 ? delegates(scope.at('sampler'), config) : identity;
  const handBack = sampleRate > 1 ? localPropagation(scope, config, proj) : proj;
  return scope.layer('GlobalSparseAttn', (x, ctx) => handBack(attend(sampler(x, ctx), ctx), ctx));
}

/** All pixels to all pixels: [b, h, w, c] → the same. */
function selfAttention(scope: Scope, { dim, heads, attentionScale, qkvOrder, qkvBias }: BlockConfig): Layer {
  const qkv = linear(scope.at('qkv'), dim, 3 * dim, { bias: qkvBias });
  const attend = attention(scope.at('attention'), { heads, scale: attentionScale ? undefined : 1, order: qkvOrder });
  return (x, ctx) => {
    const [b, h, w, c] = x.shape;
    return tf.reshape(attend(qkv(tf.reshape(x, [b, h * w, c]), ctx), ctx), [b, h, w, c]);
  };
}

/** [b, h, w, c] → [b, h/r, w/r, c]: what stands for each r×r window. The official AvgPool2d(1, r) takes its top-left pixel. */
function delegates(scope: Scope, { delegate, sampleRate: r }: BlockConfig): Layer {
  if (delegate === 'topleft') return scope.layer('AvgPool2D', x => sampleTopLeft(x, r));
  if (delegate === 'mean') return scope.layer('AvgPool2D', x => tf.avgPool(x as Tensor4D, r, r, 'valid'));
  return scope.layer('MaxPool2D', x => tf.maxPool(x as Tensor4D, r, r, 'valid'));
}

/**
 * [b, h/r, w/r, c] → [b, h, w, c]: a delegate's result returns to its window, then norm and projection. With localProp 'none' these come
 * first, on the delegates alone: a norm of zeros is its bias, so that after them the other pixels would get a constant, not zero.
 */
function localPropagation(scope: Scope, config: BlockConfig, proj: Layer): Layer {
  const { dim } = config;
  const propagate = propagation(scope.at('LocalProp'), config);
  const norm = tokenNorm(scope.at('norm'), dim, config);
  if (config.localProp === 'none') return (x, ctx) => propagate(proj(norm(x, ctx), ctx), ctx);
  return (x, ctx) => proj(norm(propagate(x, ctx), ctx), ctx);
}

/** [b, h/r, w/r, c] → [b, h, w, c]. */
function propagation(scope: Scope, { localProp, dim, sampleRate: r }: BlockConfig): Layer {
  if (localProp === 'transposed') return depthwiseTransposedConv(scope, dim, r);
  if (localProp === 'none') return scope.layer('Pad2D', x => toTopLeft(x, r));
  return scope.layer('Upsample', x => (localProp === 'nearest' ? upsampleNearest : upsampleBilinear)(x, r));
}

/**
 * Expand, GELU, shrink. [b, h, w, c] → the same. LocalAgg's is written with 1×1 convolutions (`CMlp`), SelfAttn's with
 * linear layers (`Mlp`): the same arithmetic, but stored and initialised as what they are.
 */
export function feedForward(
  scope: Scope,
  dim: number,
  { mlpRatio, bias }: Pick<BlockConfig, 'mlpRatio' | 'bias'>,
  kind: 'CMlp' | 'Mlp',
): Layer {
  const hidden = Math.floor(dim * mlpRatio);
  const dense = kind === 'CMlp' ? pointwiseConv : linear;
  const fc1 = dense(scope.at('fc1'), dim, hidden, { bias, activation: 'gelu' });
  const fc2 = dense(scope.at('fc2'), hidden, dim, { bias });
  return scope.layer(kind, expandAndShrink(fc1, fc2));
}

/** x + branch(norm(x)), with drop path. */
export function residual(norm: Layer, branch: Layer, add: Residual): Layer {
  return (x, ctx) => add(x, branch(norm(x, ctx), ctx), ctx);
}

const tokenNorm = (scope: Scope, dim: number, config: Pick<EdgeViTConfig, 'norm' | 'normEps'>): Layer =>
  (config.norm === 'layer' ? layerNorm : groupNorm)(scope, dim, config.normEps);

const identity: Layer = (x: Tensor) => x;
