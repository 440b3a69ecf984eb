import { describe, expect, test } from 'vitest';
import { applySettings, buildModel, type RecipeOptions, remarks, resolveRecipe } from '../lib/train/recipe';
import { UserError } from '../lib/util/errors';
import { tinyRecipe } from './training';

describe('a recipe', () => {
  test('never raises the learning rate to its end', () => {
    const { minLr: _, ...options } = tinyRecipe({ lr: 1e-7 }) as RecipeOptions;
    expect(resolveRecipe(options).minLr).toBe(1e-7);
    expect(resolveRecipe({ ...options, lr: 1e-3 }).minLr).toBe(1e-5);
    expect(() => resolveRecipe({ ...options, minLr: 1e-5 })).toThrow(/minLr is 0\.00001, above lr, 1e-7/);
    expect(resolveRecipe({ ...options, minLr: 1e-5, schedule: 'constant' }).minLr).toBe(1e-5);
  });

  test('that does not do what its words say is remarked upon', () => {
    const of = (options: Partial<RecipeOptions>, classes = 3, steps = 100): string => {
      const recipe = tinyRecipe({ ema: 0, warmupEpochs: 0, labelSmoothing: 0, ...options });
      return remarks({ recipe, model: buildModel(recipe, classes), totalSteps: steps }).join('; ');
    };
    expect(of({})).toBe('');
    expect(of({ warmupEpochs: 5, epochs: 2, lr: 0.01 })).toMatch(/ends at 0\.0040 and never reaches 0\.01/);
    expect(of({ warmupEpochs: 2, epochs: 2 })).toBe('');
    expect(of({ ema: 0.999 })).toMatch(/spans 1,000 steps, and there are 100/);
    expect(of({ labelSmoothing: 0.1 }, 1)).toMatch(/one output/);
    expect(of({ batch: 1 })).toMatch(/one image at a time/);
  });

  test.each([
    ['size', 100_000],
    ['outputs', 10 ** 9],
    ['epochs', 10 ** 9],
    ['batch', 10 ** 9],
  ])('of %s %i is refused before anything is made of it', (key, value) => {
    expect(() => resolveRecipe({ ...(tinyRecipe() as RecipeOptions), [key]: value })).toThrow(UserError);
  });

  test.each([
    ['dims', '1e9,16,16,16'],
    ['depths', '100000000,1,1,1'],
    ['depths', '1000,1000,1000,1000'],
    ['mlpRatio', '1e12'],
    ['dims', '60000,60000,60000,60000'],
  ])('of a network with %s %s is refused before it is counted', (key, value) => {
    const { modelSettings, ...recipe } = tinyRecipe() as RecipeOptions;
    const heads = { heads: '1,1,1,1' };
    expect(() => resolveRecipe({ ...recipe, modelSettings: { ...modelSettings, ...heads, [key]: value } })).toThrow(
      UserError,
    );
  });

  test('of images that fill no memory is refused', () => {
    expect(() => resolveRecipe({ ...(tinyRecipe() as RecipeOptions), size: 4096, batch: 1024 })).toThrow(UserError);
  });

  test('is refused in words', () => {
    const refusal = (options: object): string => {
      try {
        resolveRecipe({ ...(tinyRecipe() as RecipeOptions), ...options });
        return '';
      } catch (error) {
        return (error as Error).message;
      }
    };
    for (const options of [
      { epochs: 1.5 },
      { epochs: undefined },
      { lr: 'fast' },
      { optimizer: 'lion' },
      { model: 3 },
    ]) {
      expect(refusal(options)).toContain(Object.keys(options)[0]);
      expect(refusal(options)).not.toMatch(/received|Invalid|Too (small|big)|\bint\b|"[^"]*"\|/);
    }
  });

  test('knows no setting __proto__', () => {
    for (const key of ['__proto__', 'augment.__proto__', '__proto__.x'])
      expect(() => applySettings(tinyRecipe() as RecipeOptions, Object.fromEntries([[key, '1']]))).toThrow(
        /Unknown setting/,
      );
  });
});
