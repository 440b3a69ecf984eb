import { z } from 'zod';
import { tf } from '../../tensor/tf';
import { UserError } from '../../util/errors';
import { architecture } from '../architecture';
import type { Tally } from '../count';
import {
  attention,
  batchNorm,
  conv2d,
  depthwiseConv,
  depthwiseTransposedConv,
  expandAndShrink,
  linear,
  sampleTopLeft,
  standardise,
} from '../layers';
import type { Layer, Scope } from '../module';

/**
 * The single-stage EdgeViT of a Chinese teaching article, written there in Paddle and trained on Flowers-102.
 * [b, h, w, 3] → logits [b, classes]; at 224×224 and 103 classes 15,542,263 parameters, batch norm statistics included.
 * Its own names, Paddle's initialisers, and its bugs, kept because they define it:
 *
 * 1. FFN and attention reshape to [1, 144, 14, 14] and [1, 48, 56, 56], so a batch of 2 raises "capacity:150528 !=
 *    in_size:301056", and so does any other image size. The only bug that `article` repairs: there the shapes are those of
 *    the input, and in evaluation a batch gives what its images give one by one. `article-as-printed` refuses as the original does.
 * 2. `layer_norm(x, x.shape[1:])` normalises a whole image, channels included, and has no weights; the paper's norm is per token.
 * 3. The attention scale is stored and never used: the logits are not divided by √48. The head width 48 is written in.
 * 4. No norm before attention or FFN, no FFN after attention, no pooling: the classifier sees 150,528
 *    features, and 15,504,487 of the parameters are its. FFN's default width, 3156, is a slip for 3136 (unused).
 * 5. The text trains on CIFAR-10, the code on Flowers-102 (103 outputs, because labels run from 1 to 102). It builds a
 *    normalisation to ±1 and then passes a default one; images are scaled after it. Batch norm trains on batches of one.
 * 6. Adam's learning rate of 0.001 on 150,528 inputs takes a single image's loss from 3.5 to 0.0 in one step.
 *
 * Correct in it: softmax over the keys, its product with v, and the split of qkv for one head.
 */
export function article(
  scope: Scope,
  numClasses: number,
  [height, width]: readonly [number, number],
  asPrinted: boolean,
): Layer {
  const dim = 48;
  const rate = 4;
  const downSample1 = downSample(scope.at('downsample1'), 3, dim);
  const patchEmbedding1 = patchEmbedding(scope.at('patchembeding1'), dim);
  const residualAdd1 = residual(scope.at('residual_add1'), inner => localAgg(inner, dim));
  const residualAdd11 = residual(scope.at('residual_add1_1'), inner => feedForward(inner, dim, 4 * dim));
  const patchEmbedding2 = patchEmbedding(scope.at('patchembeding2'), dim);
  const residualAdd2 = residual(scope.at('residual_add2'), inner => globalSparseAttn(inner, dim, rate));
  const features = dim * (height / PATCH) * (width / PATCH);
  const fc = linear(scope.at('fc'), features, numClasses, linearInit(features, numClasses));
  return (x, ctx) => {
    if (asPrinted && x.shape[0] !== 1)
      throw new UserError(
        `The article's model as printed takes one image at a time, not ${x.shape[0]}: its code reshapes to batch 1. Use 'article', which repairs this alone.`,
      );
    for (const layer of [downSample1, patchEmbedding1, residualAdd1, residualAdd11, patchEmbedding2, residualAdd2])
      x = layer(x, ctx);
    // Flattened as Paddle lays it out, channels first: the classifier's rows are in that order.
    return fc(tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [x.shape[0], features]), ctx);
  };
}

/** Side of the article's patches; sample windows are as many patches wide. */
const PATCH = 4;

/** Throws UserError if the sides do not split into patches and sample windows, or, as printed, are not 224. */
export function checkArticle(name: string, [height, width]: readonly [number, number], asPrinted: boolean): void {
  if (asPrinted && (height !== 224 || width !== 224))
    throw new UserError(`${name} takes 224×224 images only, not ${height}×${width}: its shapes are written in.`);
  if (height % 16 || width % 16)
    throw new UserError(`${name} cannot take ${height}×${width} images: each side must be a multiple of 16.`);
}

function downSample(scope: Scope, inDim: number, dim: number): Layer {
  const conv = conv2d(scope.at('downsample'), inDim, dim, PATCH, {
    stride: PATCH,
    padding: 0,
    ...convInit(inDim, PATCH),
  });
  return scope.layer('DownSampleLayer', (x, ctx) => standardise(conv(x, ctx), [1, 2, 3], 1e-5));
}

function patchEmbedding(scope: Scope, dim: number): Layer {
  const embed = depthwiseConv(scope.at('embed'), dim, 3, convInit(dim, 3));
  return scope.layer('PatchEmbed', (x, ctx) => tf.add(x, embed(x, ctx)));
}

function residual(scope: Scope, module: (scope: Scope) => Layer): Layer {
  const branch = module(scope.at('module'));
  return scope.layer('Residual', (x, ctx) => tf.add(branch(x, ctx), x));
}

function localAgg(scope: Scope, dim: number): Layer {
  const conv1 = conv2d(scope.at('conv1'), dim, dim, 1, convInit(dim, 1));
  const conv2 = depthwiseConv(scope.at('conv2'), dim, 3, convInit(dim, 3));
  const conv3 = conv2d(scope.at('conv3'), dim, dim, 1, convInit(dim, 1));
  const norm1 = batchNorm(scope.at('norm1'), dim, { runningVariance: 'biased' });
  const norm2 = batchNorm(scope.at('norm2'), dim, { runningVariance: 'biased' });
  return scope.layer('LocalAgg', (x, ctx) => conv3(norm2(conv2(conv1(norm1(x, ctx), ctx), ctx), ctx), ctx));
}

function feedForward(scope: Scope, dim: number, hidden: number): Layer {
  const fc1 = linear(scope.at('fc1'), dim, hidden, { ...linearInit(dim, hidden), activation: 'gelu' });
  const fc2 = linear(scope.at('fc2'), hidden, dim, linearInit(hidden, dim));
  return scope.layer('FFN', expandAndShrink(fc1, fc2));
}

function globalSparseAttn(scope: Scope, dim: number, rate: number): Layer {
  const qkv = linear(scope.at('qkv'), dim, 3 * dim, linearInit(dim, 3 * dim));
  const sampler = scope.at('sampler').layer('AvgPool2D', x => sampleTopLeft(x, rate));
  const attend = attention(scope.at('attention'), { heads: 1, scale: 1 });
  const localProp = depthwiseTransposedConv(scope.at('LocalProp'), dim, rate, {
    weightInit: { uniform: Math.sqrt(6 / (rate * rate * (1 + dim))) },
    biasInit: ZEROS,
  });
  const proj = linear(scope.at('proj'), dim, dim, linearInit(dim, dim));
  return scope.layer('GlobalSparseAttn', (x, ctx) => {
    const sampled = sampler(x, ctx);
    const [b, h, w, c] = sampled.shape;
    const tokens = attend(qkv(tf.reshape(sampled, [b, h * w, c]), ctx), ctx);
    return proj(standardise(localProp(tf.reshape(tokens, [b, h, w, c]), ctx), [1, 2, 3], 1e-5), ctx);
  });
}

const ZEROS = { constant: 0 };

/** Paddle's default for convolutions: normal of variance 2 / (in · k²), where a depthwise one counts all channels as in. */
const convInit = (inDim: number, kernel: number) => ({
  weightInit: { normal: Math.sqrt(2 / (inDim * kernel * kernel)) },
  biasInit: ZEROS,
});

/** Paddle's default for linear layers: Xavier, uniform. */
const linearInit = (inDim: number, outDim: number) => ({
  weightInit: { uniform: Math.sqrt(6 / (inDim + outDim)) },
  biasInit: ZEROS,
});

function countArticle(
  tally: Tally,
  _config: object,
  numClasses: number,
  [height, width]: readonly [number, number],
): void {
  const dim = 48;
  const pixels = (height * width) / 16;
  tally.conv('downsample1.downsample', 3, dim, 4, pixels);
  tally.depthwise('patchembeding1.embed', dim, 3, pixels);
  tally.conv('residual_add1.module.conv1', dim, dim, 1, pixels);
  tally.depthwise('residual_add1.module.conv2', dim, 3, pixels);
  tally.conv('residual_add1.module.conv3', dim, dim, 1, pixels);
  tally.batchNorm('residual_add1.module.norm1', dim, pixels);
  tally.batchNorm('residual_add1.module.norm2', dim, pixels);
  tally.linear('residual_add1_1.module.fc1', dim, 4 * dim, pixels);
  tally.linear('residual_add1_1.module.fc2', 4 * dim, dim, pixels);
  tally.depthwise('patchembeding2.embed', dim, 3, pixels);
  tally.linear('residual_add2.module.qkv', dim, 3 * dim, pixels / 16);
  tally.attention('residual_add2.module.attention', dim, pixels / 16);
  tally.localProp('residual_add2.module.LocalProp', dim, 4, pixels);
  tally.linear('residual_add2.module.proj', dim, dim, pixels);
  tally.linear('fc', dim * pixels, numClasses, 1);
}

const articleModel = (asPrinted: boolean) =>
  architecture({
    settings: z.strictObject({}),
    published: {},
    classes: 103, // its labels of 102 begin at 1
    paddleSplit: true,
    check: (name, _config, size) => checkArticle(name, size, asPrinted),
    build: (scope, _config, numClasses, size) => article(scope, numClasses, size, asPrinted),
    count: countArticle,
    ...(asPrinted && { exhibit: true }),
  });

export const ARTICLE_MODELS = { article: articleModel(false), 'article-as-printed': articleModel(true) };
