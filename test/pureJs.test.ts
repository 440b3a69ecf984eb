import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readFixture } from '../lib/measure/fixture';
import { checkParity } from '../lib/measure/parity';
import { createModel } from '../lib/model/registry';
import { isNative, tf } from '../lib/tensor/tf';
import { checkContract } from './contract';

const SMALL = ['depths=1,1,1,1', 'dims=8,8,8,8', 'heads=1,2,2,2'];

test('the pure-JS engine is in use', () => {
  expect(isNative()).toBe(false);
  expect(tf.getBackend()).toBe('cpu');
});

test.each(['blocks', 'lgl_grad'])('agrees with the float64 reference: %s', name => {
  const cases = [...checkParity(readFixture(join(__dirname, 'fixtures', `${name}.json`)))];
  expect(cases.filter(({ passed }) => !passed)).toEqual([]);
});

test.each([
  undefined,
  'localAggOnly',
  'noLocalAgg',
  'localPropNearest',
  'localPropBilinear',
  'fullAttention',
  'delegateMean',
  'delegateMax',
  'pseudocode',
])('keeps the contract: %s', ablation => {
  checkContract(createModel('edgevit-xxs', { numClasses: 3, size: [32, 64], ablation, set: SMALL }));
});
