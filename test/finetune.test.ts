import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { createModel } from '../lib/model/registry';
import { adoptModel, initFile } from '../lib/runs/init';
import { startTrial } from '../lib/runs/trial';
import { torchShape } from '../lib/tensor/layout';
import { type Tensor, tf } from '../lib/tensor/tf';
import { loadWeights, saveWeights } from '../lib/train/checkpoint';
import { frozenParams, rateScales } from '../lib/train/finetune';
import { initialWeights } from '../lib/train/initial';
import { planTraining } from '../lib/train/plan';
import { resolveRecipe } from '../lib/train/recipe';
import { trainStep } from '../lib/train/step';
import { createTrainer, type Trainer } from '../lib/train/trainer';
import { UserError } from '../lib/util/errors';
import type { HostTensor } from '../lib/weights/safetensors';
import { writeTensors } from '../lib/weights/tensorFiles';
import './allclose';
import { dataset, tinyRecipe } from './training';

const folder = mkdtempSync(join(tmpdir(), 'finetune-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SETTINGS = { depths: '1,1,1,1', dims: '8,16,16,16', heads: '1,2,2,2' } as const;
const model = createModel('edgevit-xxs', { numClasses: 3, size: 32, dropPath: 0, ...SETTINGS });
const FROZEN = 'patch_embed*,blocks1,blocks2';

/** One step of plain SGD: how far each parameter moved, and the running statistics before and after. */
function oneStep(settings: object): {
  moved: Record<string, Float32Array>;
  buffers: [before: Tensor, after: Tensor][];
} {
  const sgd = { optimizer: 'sgd', weightDecay: 0, momentum: 0, beta1: 0, beta2: 0, epsilon: 1e-8 } as const;
  const step = trainStep(model, { ...sgd, labelSmoothing: 0, clip: 0, ema: 0.5, lr: 0.1, ...settings });
  const { params, buffers } = model.init(0);
  const images = tf.randomUniform([4, 32, 32, 3], -1, 1, 'float32', 'seed');
  const targets = tf.oneHot([0, 1, 2, 0], 3);
  const state = step.initialState(params, buffers);
  const result = step.run(params, state, { images, targets }, step.draw(1, 0.1, tf.zeros([0, 4])));
  const moved = Object.fromEntries(
    Object.keys(params).map(name => [name, tf.sub(result.params[name], params[name]).dataSync() as Float32Array]),
  );
  const names = Object.keys(buffers);
  for (const name of [...Object.keys(params), ...names].filter(name => step.trained.every(spec => spec.name !== name)))
    if (params[name] && moved[name].every(value => value === 0))
      expect(result.state.ema[name].dataSync()).toEqual(params[name].dataSync());
  return { moved, buffers: names.map(name => [buffers[name], result.state.buffers[name]]) };
}

const plain = oneStep({});

describe('what is frozen', () => {
  test('keeps its weights and its running statistics to the byte, and the rest is trained', () => {
    const { moved, buffers } = oneStep({ freeze: FROZEN });
    const isFrozen = (name: string): boolean => /^(patch_embed|blocks[12]\.)/.test(name);
    for (const [name, values] of Object.entries(moved)) {
      expect(
        values.every(value => value === 0),
        name,
      ).toBe(isFrozen(name) || plain.moved[name].every(value => value === 0));
    }
    model.buffers.forEach(({ name }, i) => {
      const [before, after] = buffers[i].map(tensor => [...tensor.dataSync()]);
      if (isFrozen(name)) expect(after, name).toEqual(before);
      else expect(after, name).not.toEqual(before);
    });
  });

  test('is named by modules, parameters and patterns, the last of which decides', () => {
    const names = (freeze: string): string[] => [...frozenParams(model, freeze)];
    expect(names('blocks1').every(name => name.startsWith('blocks1.'))).toBe(true);
    expect(names('norm.weight')).toEqual(['norm.weight']);
    const all = model.params.map(({ name }) => name);
    expect(all.filter(name => !names('*,!head').includes(name))).toEqual(['head.weight', 'head.bias']);
    expect(() => names('block1')).toThrow(/'block1'.*'blocks1'/);
    expect(() => names('*')).toThrow(UserError);
    expect(frozenParams(model, null).size).toBe(0);
  });
});

describe('learning rates', () => {
  test("the head's own multiplies its steps alone", () => {
    const { moved } = oneStep({ lrHead: 0.5 });
    for (const [name, values] of Object.entries(moved))
      expect(values).toBeAllclose(plain.moved[name].map(value => (name.startsWith('head.') ? 5 : 1) * value));
  });

  test('decay from layer to layer, from the head back', () => {
    const { moved } = oneStep({ layerDecay: 0.5 });
    const back = {
      'head.bias': 0,
      'norm.bias': 1,
      'blocks4.0.SelfAttn.norm1.bias': 2,
      'patch_embed4.norm.bias': 3,
      'blocks3.0.SelfAttn.norm1.bias': 4,
      'patch_embed1.norm.bias': 9,
    }; // all of them begin at 0, so that no step is rounded
    for (const [name, steps] of Object.entries(back))
      expect(moved[name], name).toBeAllclose(plain.moved[name].map(value => value / 2 ** steps));
    expect(new Set(rateScales(model, {}).values())).toEqual(new Set([1]));
  });

  test('decay through a network with tokens of no layer, which come first', () => {
    const vit = createModel('vit-tiny', { numClasses: 3, size: 32 });
    const scales = rateScales(vit, { layerDecay: 0.5 });
    expect(scales.get('head.weight')).toBe(1);
    expect(scales.get('cls_token')).toBe(Math.min(...scales.values()));
    expect(scales.get('cls_token')).toBeGreaterThan(0);
  });

  test.each(['adam', 'adamw'] as const)('go through %s and its weight decay', optimizer => {
    const adam = { optimizer, weightDecay: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    const whole = oneStep({ ...adam }).moved['head.weight'];
    const fifth = oneStep({ ...adam, lrHead: 0.02 }).moved['head.weight'];
    expect(fifth).toBeAllclose(whole.map(value => value / 5));
  });
});

test('a fine-tuning that was interrupted ends at the same bytes', async () => {
  const recipe = tinyRecipe({ epochs: 2, freeze: FROZEN, lrHead: 0.01, layerDecay: 0.7 });
  const plan = planTraining(recipe, dataset);
  const run = async (trainer: Trainer, until = Infinity): Promise<string> => {
    for await (const { step } of trainer.events()) if (step >= until) break;
    return trainer.digest();
  };
  const whole = await run(createTrainer(plan, { workers: 0 }));
  const checkpoint = join(folder, 'interrupted.safetensors');
  const begun = createTrainer(plan, { workers: 0 });
  await run(begun, 1);
  begun.save(checkpoint);
  expect(await run(createTrainer(plan, { resume: checkpoint, workers: 0 }))).toBe(whole);
});

describe('--init', () => {
  const reporter = {
    lines: [] as string[],
    say: (line: string) => reporter.lines.push(line),
    step() {},
    epoch() {},
    end() {},
  };
  const options = {
    reporter,
    writeReport: async () => {},
    recipeName: 'petals',
    about: '',
    runs: folder,
  };
  const recipe = tinyRecipe({ epochs: 1, ema: 0 });

  test("takes a run by its name, and another number of classes keeps all but the head, which is the seed's", async () => {
    const first = await startTrial({ ...options, plan: planTraining(recipe, dataset), name: 'first' });
    const other = await startTrial({
      ...options,
      plan: planTraining({ ...recipe, outputs: 5, lr: 1e-30, minLr: 0, weightDecay: 0 }, dataset),
      name: 'second',
      init: initFile(folder, 'first'),
    });
    expect(reporter.lines.join()).toMatch(/head\.weight and head\.bias/);
    const before = loadWeights(
      first.lastCheckpoint,
      createModel('edgevit-xxs', { numClasses: 3, size: 32, ...SETTINGS }),
    );
    const wide = createModel('edgevit-xxs', { numClasses: 5, size: 32, ...SETTINGS });
    const after = loadWeights(other.lastCheckpoint, wide);
    const fresh = wide.init(recipe.seed).params;
    for (const [name, tensor] of Object.entries(after.params))
      expect(tensor.dataSync(), name).toBeAllclose((name.startsWith('head.') ? fresh : before.params)[name].dataSync());
    expect(() => initFile(folder, 'third')).toThrow(UserError);
  });

  test("takes EasyCV's layout, and with it the model and the epsilon that its names stand for", async () => {
    const xs = createModel('edgevit-xs', { numClasses: 1000, size: 224 });
    const tensors = Object.fromEntries(
      [...xs.params, ...xs.buffers].map(spec => {
        const shape = torchShape(spec);
        const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
        const name = spec.name.startsWith('head.')
          ? spec.name.replace('head.', 'head.fc_cls.')
          : `backbone.${spec.name}`;
        return [name, { dtype: 'F32', shape, data } satisfies HostTensor];
      }),
    );
    const path = join(folder, 'easycv.safetensors');
    writeTensors(path, { tensors, metadata: {} });
    const asked = { model: 'edgevit-xxs', data: 'petals', size: 64, epochs: 1, batch: 4, lr: 1e-3 };
    const { options: fitting } = await adoptModel(path, asked, { modelSaid: false });
    expect(resolveRecipe(fitting)).toMatchObject({ model: 'edgevit-xs', modelSettings: { blockNormEps: 1e-8 } });
    const own = { ...asked, modelSettings: { blockNormEps: '1e-6' } };
    expect((await adoptModel(path, own, { modelSaid: false })).options.modelSettings).toEqual(own.modelSettings);
    await expect(adoptModel(path, asked, { modelSaid: true })).rejects.toThrow(UserError);
  });

  test("takes a training checkpoint's moving average, by which it was judged", async () => {
    const averaged = await startTrial({
      ...options,
      plan: planTraining({ ...recipe, ema: 0.5 }, dataset),
      name: 'averaged',
    });
    const network = createModel('edgevit-xxs', { numClasses: 3, size: 32, ...SETTINGS });
    const trainer = createTrainer(planTraining(recipe, dataset), {
      init: loadWeights(averaged.bestCheckpoint, network),
      workers: 0,
    });
    const best = trainer.digest();
    const { params, buffers } = await initialWeights(initFile(folder, 'averaged'), network, 0);
    const again = join(folder, 'again.safetensors');
    saveWeights(again, network, params, buffers, 0);
    expect(
      createTrainer(planTraining(recipe, dataset), { init: loadWeights(again, network), workers: 0 }).digest(),
    ).toBe(best);
  });
});
