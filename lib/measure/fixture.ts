import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { oneOf, UserError } from '../util/errors';
import { parseOptions } from '../util/options';

/** The files that `parity` reads: what a reference implementation computed in float64, NCHW, from weights and inputs by the rule of rule.ts. */

const shape = z.array(z.number().int().positive());
const values = z.array(z.number());
const declaration = z.union([
  z.tuple([z.string(), shape]).transform(([name, sides]) => ({ name, shape: sides, data: undefined })),
  z.object({ name: z.string(), shape, data: values.optional() }),
]);
const stateDict = z.array(declaration);

/** A large tensor by its statistics and some of its values. */
const summary = z.object({
  shape,
  mean: z.number(),
  std: z.number(),
  absmax: z.number(),
  first16: values.optional(),
  sample_idx: z.array(z.number().int().nonnegative()),
  sample: values,
});

const fourNumbers = z.tuple([z.number(), z.number(), z.number(), z.number()]);
const modelConfig = z.object({
  depth: fourNumbers,
  embed_dim: fourNumbers,
  head_dim: z.number(),
  num_classes: z.number(),
  mlp_ratio: z.number(),
  sr_ratios: fourNumbers,
  qkv_bias: z.boolean(),
});

const blockConfig = z.looseObject({
  type: z.enum(['PatchEmbed', 'LocalAgg', 'GlobalSparseAttn', 'SelfAttn', 'LGLBlock']),
  patch: z.number().optional(),
  in_chans: z.number().optional(),
  embed_dim: z.number().optional(),
  dim: z.number().optional(),
  num_heads: z.number().optional(),
  sr_ratio: z.number().optional(),
  mlp_ratio: z.number().optional(),
  qkv_bias: z.boolean().optional(),
  local_agg: z.boolean().optional(),
  ln_eps: z.number().optional(),
  gsa_ln_eps: z.number().optional(),
  block_ln_eps: z.number().optional(),
  bn_eps: z.number().optional(),
  H: z.number().optional(),
  W: z.number().optional(),
});

const model = z.object({
  kind: z.literal('model'),
  name: z.string(),
  hash_prefix: z.string(),
  config: modelConfig,
  mode: z.string(),
  input_shape: shape,
  params: z.number(),
  state_dict: stateDict,
  stages: z.record(z.string(), summary),
  logits: z.array(values),
});

const blocks = z.object({
  kind: z.literal('blocks'),
  cases: z.array(
    z.object({
      id: z.string(),
      hash_prefix: z.string(),
      config: blockConfig,
      mode: z.string(),
      input_shape: shape,
      output_shape: shape,
      state_dict: stateDict,
      input: values.optional(),
      output: values,
    }),
  ),
});

const grad = z.object({
  kind: z.literal('grad'),
  hash_prefix: z.string(),
  mode: z.string(),
  config: blockConfig,
  input_shape: shape,
  loss: z.number(),
  state_dict: stateDict,
  input: values.optional(),
  target: values.optional(),
  output: values,
  grad_input: values,
  grads: z.array(z.object({ name: z.string(), shape, data: values })),
  buffers_after: z.array(z.object({ name: z.string(), data: values })),
});

const trace = z.object({
  optimizer: z.object({
    lr: z.number(),
    momentum: z.number().optional(),
    betas: z.tuple([z.number(), z.number()]).optional(),
    eps: z.number().optional(),
    weight_decay: z.number().default(0),
    decay: z.string().optional(),
  }),
  label_smoothing: z.number().default(0),
  losses_before_each_step: values,
  eval_logits_after: z.array(values).optional(),
});

const train = z.object({
  kind: z.literal('train'),
  hash_prefix: z.string(),
  config: modelConfig,
  input_shape: shape,
  labels: z.array(z.number().int().nonnegative()),
  state_dict: stateDict,
  eval_logits_before: z.array(values).optional(),
  step1_grad_l2_l1: z.record(z.string(), z.tuple([z.number(), z.number()])).optional(),
  traces: z.record(z.string(), trace),
});

const seed = z.object({
  kind: z.literal('seed'),
  name: z.string(),
  hash_prefix: z.string(),
  params_trainable: z.number(),
  params_with_bn_stats: z.number(),
  input_shape: shape,
  state_dict: stateDict,
  stages: z.record(z.string(), summary),
  logits: z.array(values),
  train: z
    .record(
      z.string(),
      z.object({
        labels: z.array(z.number().int().nonnegative()),
        lr: z.number(),
        losses_before_each_step: values,
        step1_grads: z.record(z.string(), summary).optional(),
      }),
    )
    .default({}),
});

const rule = z.object({
  kind: z.literal('rule'),
  test_vectors: z.record(z.string(), z.union([z.number(), values])),
});

const stats = z.object({
  kind: z.literal('stats'),
  models: z.record(
    z.string(),
    z.object({
      params: z.number(),
      macs_fvcore_224: z.number(),
      modules: z.record(z.string(), z.object({ params: z.number(), macs_fvcore: z.number() })),
    }),
  ),
});

const KINDS = { model, blocks, grad, train, seed, rule, stats };

export type Fixture = { [K in keyof typeof KINDS]: z.output<(typeof KINDS)[K]> }[keyof typeof KINDS];
export type FixtureOf<K extends Fixture['kind']> = Extract<Fixture, { kind: K }>;
export type BlockFixtureConfig = z.output<typeof blockConfig>;
export type ModelFixtureConfig = z.output<typeof modelConfig>;
export type StateDict = z.output<typeof stateDict>;
export type TensorSummary = z.output<typeof summary>;
export type TrainingTrace = z.output<typeof trace>;

/** Reads and checks a fixture. Throws UserError if it is missing, not JSON, of an unknown kind or not of its kind's form. */
export function readFixture(path: string): Fixture {
  const json = normalise(parse(path));
  const kind = json.kind;
  if (typeof kind !== 'string' || !Object.hasOwn(KINDS, kind)) {
    throw new UserError(
      `'${path}' is a fixture of ${kind === undefined ? 'no kind' : `the unknown kind ${JSON.stringify(kind)}`}: known are ${oneOf(Object.keys(KINDS))}.`,
    );
  }
  return parseOptions<z.ZodType<Fixture>>(KINDS[kind as Fixture['kind']], json, path);
}

/**
 * The rule itself and the official counts carry no kind, they are told by their form; and the traces of a training file
 * lie among its other keys.
 */
function normalise(json: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(json);
  if (json.kind === 'train')
    return {
      ...json,
      traces: Object.fromEntries(entries.filter(([, value]) => holds(value, 'losses_before_each_step'))),
    };
  if (json.kind === undefined && holds(json, 'test_vectors')) return { kind: 'rule', ...json };
  if (entries.length > 0 && entries.every(([, value]) => holds(value, 'macs_fvcore_224')))
    return { kind: 'stats', models: json };
  return json;
}

function holds(value: unknown, key: string): boolean {
  return typeof value === 'object' && value !== null && key in value;
}

function parse(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UserError(
      `Cannot read the fixture '${path}': ${(error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message}.`,
    );
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`The fixture '${path}' is not JSON: ${(error as Error).message}.`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new UserError(`The fixture '${path}' is not a JSON object.`);
  return json as Record<string, unknown>;
}
