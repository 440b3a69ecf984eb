/**
 * EdgeViT Lab as a library.
 *
 * ```ts
 * import { compile, createModel, openEngine, tf, type Tensor } from './lib/index';
 *
 * await openEngine();
 * const model = createModel('edgevit-xxs', { numClasses: 102, size: 224 });
 * const { params, buffers } = model.init(0);
 * const predict = compile(
 *   (images: Tensor) => model.forward(images, params, buffers, { train: false }).logits,
 *   { capture: 'constant' },
 * );
 * predict(tf.zeros([1, 224, 224, 3])).print();
 * ```
 *
 * Importing this module loads no TensorFlow; `openEngine()` does.
 *
 * @module
 */

export { type BatchOptions, batches } from './data/batches';
// Data
export type { Dataset, Picture, Split } from './data/dataset';
export { networkInput } from './data/input';
export { type DataOptions, openDataset } from './data/open';
export type { Engine, EnsureOptions } from './engine/build/install';
export { type Compiled, type CompileOptions, compile, TraceError } from './engine/compile/compile';
export { openEngine } from './engine/open';
export { exportSavedModel, type Signature } from './engine/savedModel';
// Measuring
export { type Counts, countConfig, countModel, totalCount } from './measure/count';
export { type MeanInterval, meanInterval, power, samplesNeeded } from './measure/statistics';
export { formatSummary, type Summary, summarise } from './measure/summary';
export { ABLATIONS, type EdgeViTConfig, VARIANTS } from './model/config';
export type { Buffers, ForwardOptions, Model, Params } from './model/module';
// Models
export { createModel, MODELS, type ModelOptions } from './model/registry';
// Runs
export { listRuns, openRun, type Run, type RunRecord } from './runs/store';
export { resumeTrial, startTrial } from './runs/trial';
// Tensors and the engine
export { type Tensor, tf } from './tensor/tf';
// Weights
export { loadWeights, saveWeights } from './train/checkpoint';
export { type EvaluateOptions, evaluate } from './train/evaluate';
export type { Evaluation } from './train/metrics';
export { openPlan, planTraining, type TrainingPlan } from './train/plan';
// Training
export { RECIPES, type Recipe, type RecipeOptions, resolveRecipe } from './train/recipe';
export { createTrainer, type TrainEvent, type Trainer, type TrainerOptions } from './train/trainer';
export { Failure, UserError } from './util/errors';
export type { TensorFile } from './weights/safetensors';
export { readTensors, writeTensors } from './weights/tensorFiles';
