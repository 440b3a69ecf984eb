import { compile } from '../engine/compile/compile';
import { definePart, type Model, type ParamSpec, type Part } from '../model/module';
import { createModel } from '../model/registry';
import { torchShape } from '../tensor/layout';
import { type Tensor, tf } from '../tensor/tf';
import { crossEntropy } from '../train/loss';
import { evalStep, type StepSettings, trainStep } from '../train/step';
import { Comparison, GRADIENT_TOLERANCE, LONG_SUM_TOLERANCE, largest, OUTPUT_TOLERANCE } from './compare';
import { countConfig, totalCount } from './count';
import type { Fixture, FixtureOf, StateDict, TensorSummary, TrainingTrace } from './fixture';
import {
  asPart,
  type Differentiated,
  differentiate,
  type Evaluation,
  evaluate,
  officialBlock,
  officialModel,
  ruleInput,
  ruleState,
  toHost,
} from './reference';
import { fnv1a32, ruleTensor, ruleUniform } from './rule';

/** Runs our code on a fixture's weights and inputs, and yields for each of its cases how far our results are from its. */
export function* checkParity(fixture: Fixture): Generator<Comparison> {
  switch (fixture.kind) {
    case 'model':
      return yield checkModel(fixture);
    case 'blocks':
      return yield* checkBlocks(fixture);
    case 'grad':
      return yield* checkGradients(fixture);
    case 'train':
      return yield* checkTraining(fixture);
    case 'seed':
      return yield* checkArticle(fixture);
    case 'rule':
      return yield checkRule(fixture);
    case 'stats':
      return yield* checkCounts(fixture);
  }
}

function checkModel(fixture: FixtureOf<'model'>): Comparison {
  const result = new Comparison(fixture.name, 'outputs', OUTPUT_TOLERANCE);
  const model = officialModel(fixture.name, fixture.config, fixture.input_shape);
  result.same('parameters', totalCount(countConfig({ ...model, name: 'edgevit-xxs' })).params, fixture.params);
  compareState(result, model, fixture.state_dict, fixture.hash_prefix);
  const x = ruleInput(fixture.hash_prefix, 'input', fixture.input_shape);
  compareStages(
    result,
    evaluate(asPart(model), fixture.hash_prefix, x, isTraining(fixture.mode), Object.keys(fixture.stages)),
    fixture,
  );
  x.dispose();
  return result;
}

function* checkBlocks({ cases }: FixtureOf<'blocks'>): Generator<Comparison> {
  for (const { id, config, mode, hash_prefix: prefix, ...fixture } of cases) {
    const result = new Comparison(id, 'outputs', OUTPUT_TOLERANCE);
    const part = definePart(officialBlock(config));
    compareState(result, part, fixture.state_dict, prefix);
    compareRule(result, prefix, 'input', fixture.input_shape, fixture.input);
    const x = ruleInput(prefix, 'input', fixture.input_shape);
    const { output } = evaluate(part, prefix, x, isTraining(mode));
    x.dispose();
    result.same('output shape', output.shape.join(), fixture.output_shape.join());
    result.values('output', output.values, fixture.output);
    yield result;
  }
}

function* checkGradients({ config, hash_prefix: prefix, ...fixture }: FixtureOf<'grad'>): Generator<Comparison> {
  const outputs = new Comparison(config.type, 'outputs and running statistics', OUTPUT_TOLERANCE);
  const part = definePart(officialBlock(config));
  compareState(outputs, part, fixture.state_dict, prefix);
  compareRule(outputs, prefix, 'input', fixture.input_shape, fixture.input);
  compareRule(outputs, prefix, 'target', fixture.input_shape, fixture.target);
  const x = ruleInput(prefix, 'input', fixture.input_shape);
  const target = ruleInput(prefix, 'target', fixture.input_shape);
  const ours = differentiate(part, prefix, x, output => tf.sum(tf.mul(output, target)));
  tf.dispose([x, target]);
  outputs.values('output', ours.output.values, fixture.output);
  for (const { name, data } of fixture.buffers_after) outputs.values(name, ours.buffers[name]?.values ?? [], data);
  yield outputs;

  const gradients = new Comparison(config.type, 'loss and gradients', GRADIENT_TOLERANCE);
  gradients.values('loss', [ours.loss], [fixture.loss]);
  gradients.values('input', ours.gradInput.values, fixture.grad_input);
  gradients.same(
    'parameters with gradients',
    Object.keys(ours.grads).join(),
    fixture.grads.map(grad => grad.name).join(),
  );
  const sizes = fixture.grads.map(grad => largest(grad.data));
  fixture.grads.forEach(({ name, data }, i) =>
    gradients.values(name, ours.grads[name] ?? [], data, gradientScale(sizes[i], sizes)),
  );
  yield gradients;
}

function* checkTraining(fixture: FixtureOf<'train'>): Generator<Comparison> {
  const { hash_prefix: prefix, labels } = fixture;
  const model = officialModel(fixture.kind, fixture.config, fixture.input_shape);
  const state = new Comparison('model', 'outputs', OUTPUT_TOLERANCE);
  compareState(state, model, fixture.state_dict, prefix);
  const images = ruleInput(prefix, 'input', fixture.input_shape);
  if (fixture.eval_logits_before) {
    state.values(
      'logits before training',
      evaluate(asPart(model), prefix, images, false).output.values,
      fixture.eval_logits_before.flat(),
    );
  }
  yield state;

  if (fixture.step1_grad_l2_l1) {
    const norms = fixture.step1_grad_l2_l1;
    const result = new Comparison('first step', 'norms of gradients', GRADIENT_TOLERANCE);
    const { grads } = crossEntropyGradients(model, prefix, images, labels);
    result.same('parameters with gradients', Object.keys(grads).join(), Object.keys(norms).join());
    const [allL2, allL1] = [0, 1].map(i => Object.values(norms).map(pair => pair[i]));
    for (const [name, [l2, l1]] of Object.entries(norms)) {
      const values = grads[name] ?? [];
      result.values(
        `${name}, L2`,
        [Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0))],
        [l2],
        gradientScale(l2, allL2),
      );
      result.values(
        `${name}, L1`,
        [values.reduce((sum, value) => sum + Math.abs(value), 0)],
        [l1],
        gradientScale(l1, allL1),
      );
    }
    yield result;
  }
  const held = withoutGradient(fixture.step1_grad_l2_l1 ?? {});
  for (const [name, trace] of Object.entries(fixture.traces))
    yield compareTrace(name, model, prefix, images, labels, trace, held);
  images.dispose();
}

function* checkArticle(fixture: FixtureOf<'seed'>): Generator<Comparison> {
  const { hash_prefix: prefix, input_shape: shape } = fixture;
  const model = createModel('article', { numClasses: fixture.logits[0].length, size: [shape[2], shape[3]] });
  const outputs = new Comparison(model.name, 'outputs', LONG_SUM_TOLERANCE);
  const trainable = totalCount(countConfig(model)).params;
  outputs.same('trainable parameters', trainable, fixture.params_trainable);
  outputs.same(
    'all parameters',
    trainable + model.buffers.reduce((sum, { shape: [channels] }) => sum + channels, 0),
    fixture.params_with_bn_stats,
  );
  compareState(outputs, model, fixture.state_dict, prefix);
  const images = ruleInput(prefix, 'input', shape);
  compareStages(outputs, evaluate(asPart(model), prefix, images, false, Object.keys(fixture.stages)), fixture);
  yield outputs;

  const alone = new Comparison(model.name, 'outputs, one image at a time', LONG_SUM_TOLERANCE);
  for (let i = 0; i < shape[0]; i++) {
    const picture = tf.slice(images, i, 1);
    alone.values(`image ${i + 1}`, evaluate(asPart(model), prefix, picture, false).output.values, fixture.logits[i]);
    picture.dispose();
  }
  yield alone;

  for (const [name, { labels, lr, losses_before_each_step, step1_grads }] of Object.entries(fixture.train)) {
    const batch = tf.slice(images, 0, labels.length);
    if (step1_grads) {
      const result = new Comparison(name, 'gradients of the first step', GRADIENT_TOLERANCE);
      const { grads } = crossEntropyGradients(model, prefix, batch, labels);
      compareGradientSummaries(result, model.params, grads, step1_grads);
      yield result;
    }
    yield compareTrace(name, model, prefix, batch, labels, {
      optimizer: { lr, weight_decay: 0 },
      label_smoothing: 0,
      losses_before_each_step,
    });
    batch.dispose();
  }
  images.dispose();
}

function checkRule({ test_vectors: vectors }: FixtureOf<'rule'>): Comparison {
  const result = new Comparison('rule', 'test vectors', OUTPUT_TOLERANCE);
  for (const [name, expected] of Object.entries(vectors))
    result.values(name, ruleVector(name, expected), [expected].flat());
  return result;
}

/** `fnv1a32("name")`, `u(name)[0..3]`, `value(name,[shape])[0..3]`, `…[index]` or `…[last]`. */
function ruleVector(name: string, expected: number | number[]): number[] {
  const count = [expected].flat().length;
  const hashed = /^fnv1a32\("(.*)"\)$/.exec(name);
  if (hashed) return [fnv1a32(hashed[1])];
  const uniform = /^u\((.*)\)\[0\.\.\d+\]$/.exec(name);
  if (uniform) return Array.from({ length: count }, (_, i) => ruleUniform(fnv1a32(uniform[1]), i));
  const value = /value\(([\w.]+),\[([\d,]+)\]\)\[(last|\d+)/.exec(name);
  if (!value) return [];
  const tensor = ruleTensor('', value[1], value[2].split(',').map(Number));
  const start = value[3] === 'last' ? tensor.length - 1 : Number(value[3]);
  return [...tensor.subarray(start, start + count)];
}

function* checkCounts({ models }: FixtureOf<'stats'>): Generator<Comparison> {
  for (const [name, official] of Object.entries(models)) {
    const result = new Comparison(name, 'parameters and MACs by module', 0);
    const counts = countConfig(createModel(name.replace('_', '-'), { numClasses: 1000, size: 224 }));
    const compare = (module: string, params: number, withNorms: number) => {
      const ours = totalCount(counts, module);
      result.same(`${module || 'all'}, parameters`, ours.params, params);
      result.same(`${module || 'all'}, MACs and norms`, ours.macs + ours.normOps, withNorms);
    };
    compare('', official.params, official.macs_fvcore_224);
    for (const [module, { params, macs_fvcore: withNorms }] of Object.entries(official.modules))
      compare(module, params, withNorms);
    yield result;
  }
}

/** Names, order and shapes of the state dict; and the rule, where the file holds values too. */
function compareState(
  result: Comparison,
  part: Pick<Part, 'params' | 'buffers'>,
  stateDict: StateDict,
  prefix: string,
): void {
  const describe = ({ name, shape }: { name: string; shape: readonly number[] }) => `${name} [${shape.join(', ')}]`;
  const official = stateDict.filter(({ name }) => !name.endsWith('.num_batches_tracked'));
  const compare = (what: string, specs: readonly ParamSpec[], entries: StateDict) => {
    result.same(`number of ${what}`, specs.length, entries.length);
    entries.forEach((entry, i) =>
      result.same(what, specs[i] ? describe({ ...specs[i], shape: torchShape(specs[i]) }) : 'nothing', describe(entry)),
    );
  };
  const isStatistic = ({ name }: { name: string }) => name.includes('.running_');
  compare(
    'parameters',
    part.params,
    official.filter(entry => !isStatistic(entry)),
  );
  compare('running statistics', part.buffers, official.filter(isStatistic));
  for (const { name, shape, data } of official) compareRule(result, prefix, name, shape, data);
}

function compareRule(
  result: Comparison,
  prefix: string,
  name: string,
  shape: readonly number[],
  data?: readonly number[],
): void {
  if (data) result.values(`${name} by the rule`, ruleTensor(prefix, name, shape), data);
}

function compareStages(
  result: Comparison,
  ours: Evaluation,
  fixture: { stages: Record<string, TensorSummary>; logits: number[][] },
): void {
  for (const [stage, expected] of Object.entries(fixture.stages)) {
    const actual = ours.stages[stage];
    if (actual) result.summary(stage, actual.shape, actual.values, expected);
    else result.same(stage, 'no such module', 'a stage');
  }
  result.values('logits', ours.output.values, fixture.logits.flat());
}

function compareGradientSummaries(
  result: Comparison,
  params: readonly ParamSpec[],
  grads: Record<string, Float32Array>,
  expected: Record<string, TensorSummary>,
): void {
  result.same(
    'parameters with gradients',
    params
      .map(spec => spec.name)
      .sort()
      .join(),
    Object.keys(expected).sort().join(),
  );
  const sizes = Object.values(expected).map(({ absmax }) => absmax);
  for (const spec of params) {
    const gradient = expected[spec.name];
    if (gradient)
      result.summary(spec.name, torchShape(spec), grads[spec.name], gradient, gradientScale(gradient.absmax, sizes));
  }
}

/**
 * What a gradient's error is relative to: its own size; or, where it is zero in theory (a bias right before a batch norm:
 * 1e-16 in the reference, and in float32 what rounding leaves of sums of the others), a hundredth of the model's largest.
 */
const gradientScale = (size: number, sizes: readonly number[]): number =>
  isZero(size, sizes) ? Math.max(...sizes) / 100 : size;

const isZero = (size: number, sizes: readonly number[]): boolean => size < 1e-10 * Math.max(...sizes);

function crossEntropyGradients(
  model: Model,
  prefix: string,
  images: Tensor,
  labels: readonly number[],
): Differentiated {
  const targets = oneHot(labels, model.numClasses);
  const result = differentiate(asPart(model), prefix, images, logits => crossEntropy(logits, targets));
  targets.dispose();
  return result;
}

/**
 * Parameters whose gradient is zero in theory and noise in float32. Adam divides the noise by its own size, so they walk
 * by up to lr a step where the reference stands still. The losses do not see it, but the running mean lags behind, and
 * logits after ten steps differ by 3e-4. With these parameters held, 3e-7 is left.
 */
function withoutGradient(norms: Record<string, readonly [l2: number, l1: number]>): string[] {
  const sizes = Object.values(norms).map(([l2]) => l2);
  return Object.keys(norms).filter(name => isZero(norms[name][0], sizes));
}

/** Trains on one batch again and again with the lab's own training step, and compares each loss, relative to the largest. */
function compareTrace(
  name: string,
  model: Model,
  prefix: string,
  images: Tensor,
  labels: readonly number[],
  trace: TrainingTrace,
  held: readonly string[] = [],
): Comparison {
  const result = new Comparison(
    name,
    `training${held.length ? ` (${held.length} without gradient held)` : ''}`,
    GRADIENT_TOLERANCE,
  );
  const settings = stepSettings(trace);
  const { run, draw, initialState } = trainStep(model, settings);
  const step = compile(run, { name: 'parity training' });
  const noise = tf.zeros([model.dropPathSites, labels.length]);
  const targets = oneHot(labels, model.numClasses);
  let { params, buffers } = ruleState(model, prefix);
  let state = initialState(params, buffers);
  tf.dispose(buffers);
  const losses = trace.losses_before_each_step.map((_, i) => {
    const drawn = draw(i + 1, trace.optimizer.lr, noise);
    const next = step(params, state, { images, targets }, drawn);
    for (const parameter of held) {
      next.params[parameter].dispose();
      next.params[parameter] = params[parameter].clone();
    }
    tf.dispose([params, state, drawn.scalars, next.correct] as never);
    ({ params, state } = next);
    return toHost(next.loss).values[0];
  });
  result.values('losses', losses, trace.losses_before_each_step);
  if (trace.eval_logits_after) {
    const logits = evalStep(model)(params, state.buffers, images);
    result.values('logits after training', toHost(logits).values, trace.eval_logits_after.flat());
  }
  step.dispose();
  tf.dispose([params, state, noise, targets] as never);
  return result;
}

/** SGD where there is momentum, AdamW where the decay is decoupled, Adam otherwise; PyTorch's defaults for what is not said. */
function stepSettings({ optimizer, label_smoothing: labelSmoothing }: TrainingTrace): StepSettings {
  const { momentum, betas = [0.9, 0.999], eps = 1e-8, weight_decay: weightDecay, decay } = optimizer;
  return {
    optimizer: momentum !== undefined ? 'sgd' : decay?.includes('decoupled') ? 'adamw' : 'adam',
    weightDecay,
    momentum: momentum ?? 0,
    beta1: betas[0],
    beta2: betas[1],
    epsilon: eps,
    labelSmoothing,
    clip: 0,
    ema: 0,
  };
}

const oneHot = (labels: readonly number[], classes: number): Tensor =>
  tf.cast(tf.oneHot(tf.tensor1d([...labels], 'int32'), classes), 'float32');

const isTraining = (mode: string): boolean => mode.startsWith('train');
