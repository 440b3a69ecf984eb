import { z } from 'zod';
import { tf } from '../../tensor/tf';
import { UserError } from '../../util/errors';
import { depth, dropRate, positive, positiveInteger } from '../../util/options';
import { architecture, DOTCOM } from '../architecture';
import { feedForward, residual } from '../blocks';
import type { Tally } from '../count';
import { attention, conv2d, dropPath, dropPathRates, layerNorm, linear, TRUNC_NORMAL } from '../layers';
import type { Layer, Scope } from '../module';

/** DeiT-Ti: Touvron et al., "Training data-efficient image transformers", ICML 2021, table 1. */
export const VIT_SETTINGS = z.strictObject({
  /** Side of the square patches, in pixels. */
  patch: positiveInteger.default(16),
  dim: positiveInteger.default(192),
  depth: depth.default(12),
  heads: positiveInteger.default(3),
  mlpRatio: positive.default(4),
  /** Drop path rate of the last block; the first has 0. */
  dropPath: dropRate.default(0.1),
});

export type ViTConfig = z.output<typeof VIT_SETTINGS>;

export const VIT_TINY = VIT_SETTINGS.parse({});

/**
 * A plain vision transformer: [b, h, w, 3] → logits [b, classes]. Named and initialised as timm's. With `VIT_TINY` at
 * 224×224 and 1000 classes 5,717,416 parameters.
 */
export function viT(
  scope: Scope,
  config: ViTConfig,
  numClasses: number,
  [height, width]: readonly [number, number],
): Layer {
  const { patch, dim, depth, dropPath: rate } = config;
  const tokens = (height / patch) * (width / patch);
  const classToken = scope.param('cls_token', [1, 1, dim], 'plain', TRUNC_NORMAL);
  const posEmbed = scope.param('pos_embed', [1, tokens + 1, dim], 'plain', TRUNC_NORMAL);
  const proj = conv2d(scope.at('patch_embed.proj'), 3, dim, patch, { stride: patch, padding: 0 });
  const blocks = dropPathRates(depth, rate).map((blockRate, i) =>
    encoderBlock(scope.at(`blocks.${i}`), { ...config, dropPath: blockRate }),
  );
  const norm = layerNorm(scope.at('norm'), dim, 1e-6);
  const head = linear(scope.at('head'), dim, numClasses);
  const embed = scope.layer('TokenEmbed', (patches, ctx) => {
    const b = patches.shape[0];
    const sequence = tf.reshape(patches, [b, tokens, dim]);
    return tf.add(tf.concat([tf.tile(classToken(ctx), [b, 1, 1]), sequence], 1), posEmbed(ctx));
  });
  return (x, ctx) => {
    const encoded = norm(
      blocks.reduce((y, block) => block(y, ctx), embed(proj(x, ctx), ctx)),
      ctx,
    );
    const b = x.shape[0];
    return head(tf.reshape(tf.slice(encoded, [0, 0, 0], [b, 1, dim]), [b, dim]), ctx);
  };
}

/** Throws UserError if the sides do not split into patches or the channels into heads. */
export function checkViT(
  name: string,
  { patch, dim, heads }: ViTConfig,
  [height, width]: readonly [number, number],
): void {
  if (height % patch || width % patch)
    throw new UserError(`${name} cannot take ${height}×${width} images: each side must be a multiple of ${patch}.`);
  if (dim % heads) throw new UserError(`${name}: ${dim} channels do not split into ${heads} heads.`);
}

/** Attention and FFN, each behind a norm. [b, n, c] → the same. */
function encoderBlock(scope: Scope, { dim, heads, mlpRatio, dropPath: rate }: ViTConfig): Layer {
  const attend = residual(
    layerNorm(scope.at('norm1'), dim, 1e-6),
    selfAttention(scope.at('attn'), dim, heads),
    dropPath(scope, rate),
  );
  const feed = residual(
    layerNorm(scope.at('norm2'), dim, 1e-6),
    feedForward(scope.at('mlp'), dim, { mlpRatio, bias: true }, 'Mlp'),
    dropPath(scope, rate),
  );
  return scope.layer('Block', (x, ctx) => feed(attend(x, ctx), ctx));
}

function selfAttention(scope: Scope, dim: number, heads: number): Layer {
  const qkv = linear(scope.at('qkv'), dim, 3 * dim);
  const attend = attention(scope.at('attention'), { heads });
  const proj = linear(scope.at('proj'), dim, dim);
  return scope.layer('Attention', (x, ctx) => proj(attend(qkv(x, ctx), ctx), ctx));
}

function countViT(
  tally: Tally,
  { patch, dim, depth, mlpRatio }: ViTConfig,
  numClasses: number,
  [height, width]: readonly [number, number],
): void {
  const patches = (height * width) / patch ** 2;
  const tokens = patches + 1;
  const hidden = Math.floor(dim * mlpRatio);
  tally.set('', dim + dim * tokens, 0); // class token and position embedding
  tally.conv('patch_embed.proj', 3, dim, patch, patches);
  for (let i = 0; i < depth; i++) {
    const at = `blocks.${i}`;
    tally.tokenNorm(`${at}.norm1`, dim, tokens);
    tally.linear(`${at}.attn.qkv`, dim, 3 * dim, tokens);
    tally.attention(`${at}.attn.attention`, dim, tokens);
    tally.linear(`${at}.attn.proj`, dim, dim, tokens);
    tally.tokenNorm(`${at}.norm2`, dim, tokens);
    tally.linear(`${at}.mlp.fc1`, dim, hidden, tokens);
    tally.linear(`${at}.mlp.fc2`, hidden, dim, tokens);
  }
  tally.tokenNorm('norm', dim, tokens);
  tally.linear('head', dim, numClasses, 1);
}

export const VIT_MODELS = {
  'vit-tiny': architecture({
    settings: VIT_SETTINGS,
    published: VIT_TINY,
    classes: 1000,
    check: checkViT,
    build: viT,
    count: countViT,
    reported: [{ model: 'DeiT-tiny', phoneMs: 150, source: DOTCOM }],
  }),
};
