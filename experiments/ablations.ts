import { SHORT, sweepExperiment } from './sweepExperiment';

/**
 * What does each part of the LGL block buy? EdgeViT-XXS with one thing taken away or changed at a time, all trained alike:
 * equal pictures, steps, augmentation and seeds.
 *
 * `npm run experiment -- ablations [--data=folder:datasets/flowers12]`. Ten variants × 3 seeds × 12 epochs at 64 px: about 20 min on 2
 * cores (40 s a trial for the 720 photographs of flowers12, 55 s for petals). What is in the results already isn't trained again.
 *
 * Promises rows in `experiments/results/ablations-<data>.json`, and a table of top-1 with 95 % intervals and of paired differences
 * from the full model. It does not promise that they differ: three short runs tell differences of some points, not of one.
 */
export const ablations = sweepExperiment({
  name: 'ablations',
  about: 'what each part of the LGL block buys: EdgeViT-XXS with one thing changed at a time, about 20 min',
  base: SHORT,
  baseline: 'full',
  variants: {
    full: {},
    localAggOnly: { ablation: 'localAggOnly' },
    noLocalAgg: { ablation: 'noLocalAgg' },
    localPropNearest: { ablation: 'localPropNearest' },
    localPropBilinear: { ablation: 'localPropBilinear' },
    fullAttention: { ablation: 'fullAttention' },
    sampleRates2221: { modelSettings: { sampleRates: [2, 2, 2, 1] } },
    sampleRates8421: { modelSettings: { sampleRates: [8, 4, 2, 1] } },
    delegateMean: { ablation: 'delegateMean' },
    delegateMax: { ablation: 'delegateMax' },
  },
});
