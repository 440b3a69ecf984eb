import { type Tensor, tf } from '../../tensor/tf';
import { override } from './override';
import { callerLine, TraceError } from './traceError';

/** An optimizer of tfjs, with what it keeps on the host. SGD and momentum keep the rate in the tensor `c`, the others as a number. */
export interface Optimizer {
  learningRate?: number;
  c?: Tensor;
  iterations_: number | null;
  readonly iterations: number;
  incrementIterations(): void;
  applyGradients(grads: unknown): void;
}

const OPTIMIZERS = ['SGD', 'Momentum', 'Adagrad', 'Adadelta', 'Adam', 'Adamax', 'RMSProp'] as const;

/** The `applyGradients` of tfjs's own optimizers, each on the prototype that has it. */
const optimizerPrototypes = (): Optimizer[] =>
  OPTIMIZERS.map(name => (tf as unknown as Record<string, { prototype: Optimizer }>)[`${name}Optimizer`]!.prototype);

/** A number that no program has, to know a rate again that an optimizer makes a constant of: about √3 · 2⁻⁹⁷, exact in float32, another for each `i`. */
export const marker = (i: number) => (14_529_495 + i) * 2 ** -120;

/** Numbers, switches and tensors of an optimizer other than its rate; variables keep their ids as they are assigned. */
export const settingsOf = (optimizer: Optimizer): string =>
  JSON.stringify(
    Object.entries(optimizer)
      .filter(([key]) => !['learningRate', 'iterations_', 'c'].includes(key))
      .map(([key, value]) => [key, value instanceof tf.Tensor ? value.id : value])
      .filter(([, value]) => ['number', 'boolean'].includes(typeof value)),
  );

export const areUnchanged = (optimizers: ReadonlyMap<Optimizer, string>) => () =>
  [...optimizers].every(([optimizer, before]) => {
    requireAlive(optimizer);
    return settingsOf(optimizer) === before;
  });

/** An optimizer's tensors are its own properties, or stand in lists of `{ variable }`. */
function requireAlive(optimizer: Optimizer): void {
  const own = (Object.values(optimizer) as unknown[]).flat() as ({ isDisposed?: boolean; variable?: Tensor } | null)[];
  if (own.some(value => value?.isDisposed || value?.variable?.isDisposed))
    throw new TraceError(`An optimizer that the compiled function uses was disposed${callerLine()}.`);
}

/**
 * What tfjs's optimizers keep on the host becomes an input: they work with `symbols` in the place of what they keep. Iterations are counted after
 * each run. Returns what undoes it.
 */
export function patchOptimizers(
  symbols: (optimizer: Optimizer) => { learningRate?: number; c?: Tensor },
  iterated: (optimizer: Optimizer) => void,
): () => void {
  const restores = optimizerPrototypes().map(prototype => {
    const { applyGradients } = prototype;
    return override(prototype, {
      applyGradients(this: Optimizer, grads) {
        requireAlive(this);
        const restore = override<{ learningRate?: number; c?: Tensor }>(this, symbols(this));
        try {
          applyGradients.call(this, grads);
        } finally {
          restore();
        }
      },
    });
  });
  const restoreBase = override((tf.Optimizer as unknown as { prototype: Optimizer }).prototype, {
    incrementIterations(this: Optimizer) {
      iterated(this);
    },
    get iterations(): number {
      throw new TraceError(
        `The compiled function reads an optimizer's iterations${callerLine()}: the number would be frozen into the graph. Pass it in as an argument.`,
      );
    },
  });
  return () => {
    restoreBase();
    for (const restore of restores.reverse()) restore();
  };
}
