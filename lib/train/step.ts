import type { Buffers, Model, ParamSpec, Params } from '../model/module';
import { type Scalar, type Tensor, tf } from '../tensor/tf';
import { mapRecord, partition } from '../util/records';
import { type FineTuning, frozenParams, rateScales } from './finetune';
import { countCorrect, crossEntropy } from './loss';
import { clipByGlobalNorm, createOptimizer, movingAverage, type OptimizerSettings, type Slots } from './optimizers';

export interface StepSettings extends OptimizerSettings, FineTuning {
  labelSmoothing: number;
  /** Largest joint L2 norm of the gradients; 0 for no clipping. */
  clip: number;
  /** Decay of the moving average of all weights and statistics; 0 for none. */
  ema: number;
}

/** Everything beside the parameters that a step reads and renews. All of it has to be kept to resume after a break. */
export type StepState = {
  buffers: Buffers;
  /** The optimizer's memory. */
  slots: Slots;
  /** Moving average of parameters and buffers; empty without one. */
  ema: Record<string, Tensor>;
};

/** images [b, h, w, 3], normalised; targets [b, classes], each row sums to 1. */
export type StepBatch = { images: Tensor; targets: Tensor };

/** What the host decides for a step: drop path noise [sites, b], uniform in [0, 1), and the optimizer's scalars. */
export type StepDraw = { noise: Tensor; scalars: Record<string, Scalar> };

export type StepResult = {
  /** Mean over the batch, before the update. */
  loss: Scalar;
  /** Images of the batch whose class was right, before the update. */
  correct: Scalar;
  params: Params;
  state: StepState;
};

/** A training step of one model and what belongs to it; there is one optimizer behind all of it. */
export interface TrainStep {
  /**
   * Forward, loss, gradients, clipping, update and moving average as one pure function of tensors, so that `compile` traces it as one graph.
   * Arguments stay the caller's; everything in the result is new and the caller's too.
   */
  run(params: Params, state: StepState, batch: StepBatch, draw: StepDraw): StepResult;
  /** What the host decides for step `step`, from 1: this noise, which stays the caller's, and new scalars. */
  draw(step: number, learningRate: number, noise: Tensor): StepDraw;
  /** The state before the first step. The caller disposes. */
  initialState(params: Params, buffers: Buffers): StepState;
  /** What the optimizer remembers of every parameter that is trained, by name. */
  slots: readonly string[];
  /** The parameters that are trained: all that `freeze` leaves. */
  trained: readonly ParamSpec[];
}

/** The training step of a model. Throws UserError where `freeze` fits nothing of it, or all. */
export function trainStep(model: Model, settings: StepSettings): TrainStep {
  const frozen = frozenParams(model, settings.freeze);
  const isStill = (name: string): boolean => frozen.has(name.replace(/\.running_(mean|var)$/, '.weight'));
  const trained = model.params.filter(({ name }) => !frozen.has(name));
  const optimizer = createOptimizer(settings, trained, rateScales(model, settings));
  const names = trained.map(param => param.name);
  const run: TrainStep['run'] = (params, state, { images, targets }, { noise, scalars }) =>
    tf.tidy(() => {
      // Computed beside the loss, and kept because tfjs frees all else that a differentiated function makes.
      let correct!: Scalar;
      let buffers!: Buffers;
      const { value: loss, grads } = tf.valueAndGrads((...values) => {
        const current = { ...params, ...Object.fromEntries(names.map((name, i) => [name, values[i]])) };
        const output = model.forward(images, current, state.buffers, { train: true, noise, frozen });
        correct = tf.keep(countCorrect(output.logits, targets));
        buffers = mapRecord(output.buffers, (tensor, name) => tf.keep(isStill(name) ? tf.clone(tensor) : tensor));
        return crossEntropy(output.logits, targets, settings.labelSmoothing);
      })(names.map(name => params[name]));
      const named = Object.fromEntries(names.map((name, i) => [name, grads[i]]));
      const updated = optimizer.update(
        Object.fromEntries(names.map(name => [name, params[name]])),
        settings.clip > 0 ? clipByGlobalNorm(named, settings.clip) : named,
        state.slots,
        scalars,
      );
      // What stands still is copied, because all of the result is new.
      const next = mapRecord(params, (tensor, name) => (isStill(name) ? tf.clone(tensor) : updated.params[name]));
      const [still, moving] = partition(state.ema, isStill);
      const ema = {
        ...mapRecord(still, tf.clone),
        ...movingAverage(moving, { ...next, ...buffers }, settings.ema),
      };
      return { loss: loss as Scalar, correct, params: next, state: { buffers, slots: updated.slots, ema } };
    });
  return {
    run,
    slots: optimizer.slots,
    trained,
    draw: (step, learningRate, noise) => ({
      noise,
      scalars: mapRecord(optimizer.scalars(step, learningRate), value => tf.scalar(value)),
    }),
    initialState: (params, buffers) => ({
      buffers: mapRecord(buffers, tf.clone),
      slots: Object.fromEntries(
        optimizer.slots.map(slot => [
          slot,
          Object.fromEntries(trained.map(({ name, shape }) => [name, tf.zeros(shape)])),
        ]),
      ),
      ema: settings.ema > 0 ? mapRecord({ ...params, ...buffers }, tf.clone) : {},
    }),
  };
}

export type EvalStep = (params: Params, buffers: Buffers, images: Tensor) => Tensor;

/** images [b, h, w, 3] → logits [b, classes], by the running statistics and without drop path. */
export function evalStep(model: Model): EvalStep {
  return (params, buffers, images) => tf.tidy(() => model.forward(images, params, buffers, { train: false }).logits);
}
