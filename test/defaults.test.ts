import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MODELS } from '../lib/model/registry';
import { modelDefaults, RECIPE_VERSION, recipeDefaults } from '../lib/train/recipe';

/*
 * Results are told apart by what differs from the defaults. So a default that changes would make old results stand for another training: it
 * needs the next RECIPE_VERSION, and a table of its own. A key may be added to the code alone, or to the table as well.
 */
const path = join(__dirname, `fixtures/defaults-${RECIPE_VERSION}.json`);

describe('the defaults', () => {
  test('of this version are written down', () => expect(existsSync(path), `${path} is missing`).toBe(true));

  const table = JSON.parse(readFileSync(path, 'utf8')) as { recipe: object; models: Record<string, object> };

  test('of recipes are those of their version', () => {
    expect(
      JSON.parse(JSON.stringify(recipeDefaults())),
      'a changed default needs the next RECIPE_VERSION',
    ).toMatchObject(table.recipe);
  });

  test.each(Object.keys(table.models))('of %s are those of their version', model => {
    expect(MODELS).toContain(model);
    expect(modelDefaults(model), 'a changed default needs the next RECIPE_VERSION').toMatchObject(table.models[model]);
  });
});
