import { describe, test } from 'vitest';
import { ABLATIONS } from '../lib/model/config';
import { createModel } from '../lib/model/registry';
import { checkContract } from './contract';

// The smallest sizes that leave every stage something to do; the larger variants repeat the same blocks.
describe.each([
  ['edgevit-xxs', [64, 96]],
  ['edgevit-xs', [32, 64]],
  ['edgevit-s', [64, 32]],
] as const)('%s', (variant, size) => {
  test.each(['official', ...Object.keys(ABLATIONS)])('%s', name => {
    checkContract(createModel(variant, { numClasses: 5, size, ablation: name === 'official' ? undefined : name }));
  });
});

describe('settings', () => {
  test.each([
    ['other sample rates', ['sampleRates=2,4,1,2']],
    ['full attention by the mean', ['sampleRates=1,1,1,1', 'delegate=mean']],
    ['other depths and drop path', ['depths=2,1,1,1', 'dropPath=0.5']],
  ])('%s', (_name, set) => {
    checkContract(createModel('edgevit-xxs', { numClasses: 3, size: 64, set }));
  });
});

describe('the others', () => {
  test.each<[string, number | [number, number]]>([
    ['article', [32, 48]],
    ['mobilenet-v2', [64, 96]],
    ['vit-tiny', [32, 48]],
  ])('%s', (name, size) => {
    checkContract(createModel(name, { numClasses: 5, size }), { gradients: CONDITIONED[name] });
  });
});

/** One rounding of the images (6e-8) changes MobileNetV2's gradients by 2 % here: 52 batch norms over few values, and ReLU6's kinks. */
const CONDITIONED: Record<string, number> = { 'mobilenet-v2': 2e-2 };
