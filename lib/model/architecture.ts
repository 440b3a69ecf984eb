import type { z } from 'zod';
import type { Tally } from './count';
import type { Layer, Scope } from './module';

export type Size = readonly [height: number, width: number];

/** Everything that the lab knows of a network, given to the registry by the one file that describes it. */
export interface Architecture<S extends z.ZodObject = z.ZodObject> {
  /** Every setting with what is allowed, and its default. */
  readonly settings: S;
  /** The configuration as published. */
  readonly published: z.output<S>;
  /** Outputs that it is published with. */
  readonly classes: number;
  /** The configuration with a named ablation. Throws UserError for a name that does not exist. */
  ablate?(ablation: string): z.output<S>;
  /** Throws UserError for a configuration or a size in pixels that cannot be built. */
  check?(name: string, config: z.output<S>, size: Size): void;
  /** [b, h, w, 3] → logits [b, classes]. */
  build(scope: Scope, config: z.output<S>, numClasses: number, size: Size): Layer;
  /** Parameters and MACs by arithmetic alone. */
  count(tally: Tally, config: z.output<S>, numClasses: number, size: Size): void;
  /** Its Paddle counts weights and biases of batch norms as not trainable: `paddle.summary` prints that split. */
  readonly paddleSplit?: true;
}

/** An architecture, its settings' types inferred. */
export const architecture = <S extends z.ZodObject>(described: Architecture<S>): Architecture<S> => described;
