import { SHORT, sweepExperiment } from './sweepExperiment';

/**
 * What does a larger network, or another one, buy under an equal budget? The three EdgeViTs, MobileNetV2 and ViT-Tiny, trained from
 * nothing alike: equal pictures, steps, augmentation and seeds.
 *
 * `npm run experiment -- models [--data=folder:datasets/flowers12]`. Five models × 3 seeds × 12 epochs at 64 px: about 20 min on 2 cores.
 *
 * Promises rows in `experiments/results/models-<data>.json`, from which the trade-offs take their accuracy. A few hundred pictures
 * rank networks by how fast they learn from nothing, which ImageNet's million does not.
 */
export const models = sweepExperiment({
  name: 'models',
  about: 'XXS, XS, S, MobileNetV2 and ViT-Tiny under an equal budget, about 20 min',
  base: SHORT,
  baseline: 'edgevit-xxs',
  variants: Object.fromEntries(['edgevit-xxs', 'edgevit-xs', 'edgevit-s', 'mobilenet-v2', 'vit-tiny'].map(model => [model, { model }])),
});
