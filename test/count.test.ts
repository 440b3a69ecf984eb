import { describe, expect, test } from 'vitest';
import { countConfig, countModel, totalCount } from '../lib/measure/count';
import { ABLATIONS, VARIANTS } from '../lib/model/config';
import { createModel, MODELS } from '../lib/model/registry';

// EdgeViT: the official code, MACs by fvcore without norms. The others' parameters: the article's summary, torchvision, DeiT; their MACs by hand.
test.each([
  ['edgevit-xxs', 1000, 4_067_704, 551_262_816],
  ['edgevit-xs', 1000, 6_770_056, 1_127_815_200],
  ['edgevit-s', 1000, 13_108_168, 1_911_021_792],
  ['article', 103, 15_542_071, 111_465_984],
  ['mobilenet-v2', 1000, 3_504_872, 300_774_272],
  ['vit-tiny', 1000, 5_717_416, 1_253_683_200],
])('%s holds and does what its source says', (name, numClasses, params, macs) => {
  expect(totalCount(countConfig(createModel(name, { numClasses, size: 224 })))).toMatchObject({ params, macs });
});

describe('arithmetic on the configuration agrees with the built model, module by module', () => {
  const cases = Object.keys(VARIANTS).flatMap(variant =>
    ['official', ...Object.keys(ABLATIONS)].map(ablation => [variant, ablation]),
  );
  test.each(cases)('%s, %s', (variant, ablation) => {
    const model = createModel(variant, {
      numClasses: 7,
      size: [96, 64],
      ablation: ablation === 'official' ? undefined : ablation,
    });
    expect(sorted(countModel(model))).toEqual(sorted(countConfig(model)));
  });

  test.each(MODELS)('%s at 224', name => {
    const model = createModel(name, { numClasses: 10, size: 224 });
    expect(sorted(countModel(model))).toEqual(sorted(countConfig(model)));
  });

  test.each([
    ['edgevit-xxs', 96, ['sampleRates=2,4,1,1', 'mlpRatio=2.5', 'qkvBias=false', 'depths=2,1,1,3']],
    ['mobilenet-v2', 50, ['width=0.35']],
    ['vit-tiny', 48, ['patch=8', 'depth=3']],
  ])('%s with settings', (name, size, set) => {
    const model = createModel(name, { numClasses: 10, size, set });
    expect(sorted(countModel(model))).toEqual(sorted(countConfig(model)));
  });
});

const sorted = <T>(counts: Map<string, T>): [string, T][] => [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
