import { createHash } from 'node:crypto';
import type { Buffers, Model, ParamSpec, Params } from '../model/module';
import { torchShape, toTorch } from '../tensor/layout';
import type { Tensor } from '../tensor/tf';
import { UserError } from '../util/errors';
import { FORMAT_VERSION, otherFormat } from '../util/format';
import { counted } from '../util/text';
import { placeTensors } from '../weights/place';
import type { HostTensor, TensorFile } from '../weights/safetensors';
import { readTensors, writeTensors } from '../weights/tensorFiles';
import type { StepState } from './step';

/**
 * Checkpoints: the official PyTorch state dict, names and layout, in a safetensors file. A training checkpoint holds beside
 * it all that a run needs to resume, under two prefixes that PyTorch has to leave out:
 * `{k: v for k, v in load_file(path).items() if not k.startswith(('optimizer.', 'ema.'))}`.
 */
const OPTIMIZER = 'optimizer.';
const EMA = 'ema.';

/** How far a run has come. Plain numbers: it is kept as text beside the tensors. */
export interface TrainProgress {
  /** Steps done. */
  step: number;
  /** Epochs done, evaluation included. */
  epoch: number;
  /** Of the epoch under way: the sum of its steps' losses, and how many images were right. */
  lossSum: number;
  correct: number;
  best: { epoch: number; top1: number } | null;
}

/** A run between two steps. */
export interface TrainingState {
  params: Params;
  state: StepState;
  progress: TrainProgress;
}

/** A value became NaN or infinite. */
export class NotFiniteError extends Error {
  override name = 'NotFiniteError';
}

/** Writes weights and running statistics alone; PyTorch's strict `load_state_dict` takes the file as it is. Throws NotFiniteError. */
export function saveWeights(path: string, model: Model, params: Params, buffers: Buffers, step: number): void {
  writeFinite(path, stateDict(model, params, buffers, step), identity(model));
}

/** Reads weights of this very model, from a checkpoint of ours or PyTorch's. Throws UserError where a name or shape differs. The caller disposes. */
export function loadWeights(path: string, model: Model): { params: Params; buffers: Buffers } {
  return weightsOf(path, model, readTensors(path));
}

/** Writes all that a run needs to resume. Throws NotFiniteError. */
export function saveTraining(path: string, model: Model, { params, state, progress }: TrainingState): void {
  const tensors = stateDict(model, params, state.buffers, progress.step);
  for (const [slot, values] of Object.entries(state.slots))
    Object.assign(
      tensors,
      toHost(
        model.params.filter(({ name }) => values[name]),
        values,
        `${OPTIMIZER}${slot}.`,
      ),
    );
  if (Object.keys(state.ema).length > 0)
    Object.assign(tensors, toHost([...model.params, ...model.buffers], state.ema, EMA));
  writeFinite(path, tensors, { ...identity(model), progress: JSON.stringify(progress) });
}

/** Leaves the earlier file in place, where a value is no number: what can be resumed from is worth more than what cannot. */
function writeFinite(path: string, tensors: Record<string, HostTensor>, metadata: Record<string, string>): void {
  const broken = Object.entries(tensors).find(
    ([, { dtype, data }]) => dtype === 'F32' && !allFinite(data as Float32Array),
  );
  if (broken) throw new NotFiniteError(`'${broken[0]}' has values that are not finite`);
  writeTensors(path, { tensors, metadata });
}

/** x − x is 0 for finite x alone, and a plain loop takes a tenth of the time of `every`. */
function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (values[i] - values[i] !== 0) return false;
  return true;
}

/**
 * Reads a training checkpoint, with an optimizer's slots of the parameters that are `trained` and, where `ema`, a moving average. Throws UserError where the
 * file is of another model or lacks any of it. The caller disposes.
 */
export function loadTraining(
  path: string,
  model: Model,
  {
    slots: slotNames,
    trained = model.params,
    ema: averaged,
  }: { slots: readonly string[]; trained?: readonly ParamSpec[]; ema: boolean },
): TrainingState {
  const file = readTensors(path);
  if (!file.metadata.progress)
    throw new UserError(`'${path}' holds weights but no training state: start from it with --init.`);
  const version = Number(file.metadata.version ?? 1);
  if (version !== FORMAT_VERSION)
    throw new UserError(otherFormat(`The checkpoint '${path}'`, version, undefined, 'resumes'));
  checkIdentity(path, model, file.metadata);
  const { params, buffers } = weightsOf(path, model, file);
  const slots = Object.fromEntries(
    slotNames.map(slot => [slot, fromHost(path, model, trained, file, `${OPTIMIZER}${slot}.`)]),
  );
  const ema = averaged ? fromHost(path, model, [...model.params, ...model.buffers], file, EMA) : {};
  return { params, state: { buffers, slots, ema }, progress: JSON.parse(file.metadata.progress) as TrainProgress };
}

/** Whether a checkpoint holds what a run needs to resume, beside its weights. */
export function holdsTraining(path: string): boolean {
  return 'progress' in readTensors(path).metadata;
}

/** sha256 over all weights and running statistics, names included: equal digests are equal networks, to the bit. */
export function weightsDigest(model: Model, params: Params, buffers: Buffers): string {
  return digestOf({ ...toHost(model.params, params), ...toHost(model.buffers, buffers) }, model);
}

/** The same of the weights in a checkpoint; it needs no engine. Throws UserError where the file lacks one. */
export function checkpointDigest(path: string, model: Model): string {
  const { tensors } = readTensors(path);
  const own = [...model.params, ...model.buffers].map(({ name }): [string, HostTensor] => {
    if (!tensors[name]) throw new UserError(`'${path}' is no checkpoint of ${describe(model)}: it has no '${name}'.`);
    return [name, tensors[name]];
  });
  return digestOf(Object.fromEntries(own), model);
}

/** What batch norms count is in it as 0: it says how long was trained, not what came of it. */
function digestOf(tensors: Record<string, HostTensor>, model: Model): string {
  const hash = createHash('sha256');
  for (const [name, { data }] of Object.entries({ ...tensors, ...counters(model, 0) }))
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex');
}

/** PyTorch's state dict, parameters first. `step` is what its batch norms count. */
function stateDict(model: Model, params: Params, buffers: Buffers, step: number): Record<string, HostTensor> {
  return { ...toHost(model.params, params), ...toHost(model.buffers, buffers), ...counters(model, step) };
}

function counters(model: Model, step: number): Record<string, HostTensor> {
  const own = model.buffers
    .filter(({ name }) => name.endsWith('.running_mean'))
    .map(({ name }): [string, HostTensor] => [
      name.replace(/running_mean$/, 'num_batches_tracked'),
      { dtype: 'I64', shape: [], data: BigInt64Array.of(BigInt(step)) },
    ]);
  return Object.fromEntries(own);
}

function weightsOf(path: string, model: Model, file: TensorFile): { params: Params; buffers: Buffers } {
  const known = new Set([...model.params, ...model.buffers].map(spec => spec.name));
  const foreign = Object.keys(file.tensors).find(
    name => !known.has(name) && !/^optimizer\.|^ema\.|\.num_batches_tracked$/.test(name),
  );
  if (foreign !== undefined)
    throw new UserError(`'${path}' is no checkpoint of ${describe(model)}, which has no '${foreign}'.`);
  return { params: fromHost(path, model, model.params, file), buffers: fromHost(path, model, model.buffers, file) };
}

function toHost(specs: readonly ParamSpec[], tensors: Record<string, Tensor>, prefix = ''): Record<string, HostTensor> {
  return Object.fromEntries(
    specs.map(spec => {
      const data = toTorch(spec, tensors[spec.name].dataSync() as Float32Array);
      return [prefix + spec.name, { dtype: 'F32', shape: torchShape(spec), data }];
    }),
  );
}

function fromHost(
  path: string,
  model: Model,
  specs: readonly ParamSpec[],
  { tensors }: TensorFile,
  prefix = '',
): Record<string, Tensor> {
  for (const spec of specs) {
    const stored = tensors[prefix + spec.name];
    const expected = `[${torchShape(spec).join(', ')}]`;
    if (stored?.dtype !== 'F32')
      throw new UserError(
        `'${path}' is no checkpoint of ${describe(model)}: it has no '${prefix}${spec.name}' ${expected}.`,
      );
    const shape = `[${stored.shape.join(', ')}]`;
    if (shape !== expected)
      throw new UserError(
        `'${path}' is no checkpoint of ${describe(model)}: its '${prefix}${spec.name}' is ${shape}, not ${expected}.`,
      );
  }
  return placeTensors(specs, Object.fromEntries(specs.map(({ name }) => [name, tensors[prefix + name]])));
}

function describe({ name, numClasses, inputSize: [height, width] }: Model): string {
  return `${name} with ${counted(numClasses, 'class', 'classes')} at ${height}×${width}`;
}

function identity(model: Model): Record<string, string> {
  return {
    format: 'pt',
    version: String(FORMAT_VERSION),
    model: describe(model),
    config: JSON.stringify(model.config),
  }; // `format` is PyTorch's
}

/** To resume, everything must be the same, also what changes no shape; to start from weights, names and shapes decide. */
function checkIdentity(path: string, model: Model, metadata: Record<string, string>): void {
  const own = identity(model);
  if (metadata.model !== own.model)
    throw new UserError(`'${path}' is a checkpoint of ${metadata.model}, not of ${own.model}.`);
  if (metadata.config !== own.config)
    throw new UserError(`'${path}' is a checkpoint of ${metadata.model} with other settings: ${metadata.config}.`);
}
