import { describe, expect, test } from 'vitest';
import { MOBILENET_V2, MOBILENET_V2_SETTINGS } from '../lib/model/baselines/mobilenetV2';
import { VIT_SETTINGS, VIT_TINY } from '../lib/model/baselines/vit';
import { EDGEVIT_SETTINGS, VARIANTS } from '../lib/model/config';
import { createModel } from '../lib/model/registry';
import { UserError } from '../lib/util/errors';
import { checkContract } from './contract';
import { levels, pairwise, type Settings } from './settings';

/** Networks small enough that a row of settings takes a second. */
const TINY: Record<
  string,
  { schema: typeof EDGEVIT_SETTINGS | typeof MOBILENET_V2_SETTINGS | typeof VIT_SETTINGS; base: Settings; size: number }
> = {
  'edgevit-xxs': {
    schema: EDGEVIT_SETTINGS,
    base: { ...VARIANTS['edgevit-xxs'], depths: [1, 1, 1, 1], dims: [8, 16, 16, 16], heads: [1, 2, 2, 2], mlpRatio: 2 },
    size: 64,
  },
  // At 32 px its last batch norms have one value per image, and one rounding changes even the loss.
  'mobilenet-v2': { schema: MOBILENET_V2_SETTINGS, base: { ...MOBILENET_V2, width: 0.5 }, size: 96 },
  'vit-tiny': { schema: VIT_SETTINGS, base: { ...VIT_TINY, depth: 2, dim: 24 }, size: 32 },
};

const fits =
  (name: string, size: number) =>
  (settings: Settings): boolean => {
    try {
      createModel(name, { ...settings, numClasses: 3, size });
      return true;
    } catch (error) {
      if (error instanceof UserError) return false; // channels that do not split into heads, say
      throw error;
    }
  };

describe.each(Object.entries(TINY))(
  '%s holds the contract for every setting of its schema, any two of them together',
  (name, { schema, base, size }) => {
    const rows = pairwise(levels(schema, base), fits(name, size));

    test('no setting is left at its default', () => {
      for (const key of Object.keys(schema.shape))
        expect(new Set(rows.map(row => JSON.stringify(row[key]))).size, key).toBeGreaterThan(1);
    });

    test.each(rows.map((settings, i) => [i, settings] as const))('row %i', (_, settings) => {
      const model = createModel(name, { ...settings, numClasses: 3, size });
      const changed = Object.entries(settings).filter(
        ([key, value]) => JSON.stringify(value) !== JSON.stringify(base[key]),
      );
      try {
        checkContract(model, { gradients: name === 'mobilenet-v2' ? 2e-2 : undefined }); // see contract.test.ts
      } catch (error) {
        (error as Error).message =
          `${changed.map(([key, value]) => `${key}=${String(value)}`).join(' ')}: ${(error as Error).message}`;
        throw error;
      }
    });
  },
);
