import type { z } from 'zod';
import type { Tally } from './count';
import type { Layer, Scope } from './module';

export type Size = readonly [height: number, width: number];

/** What others reported of a network: never the lab's own, and nowhere mixed with it. */
export interface Reported {
  /** As they call it. */
  model: string;
  /** ImageNet-1k, in [0, 1]. */
  top1?: number;
  params?: number;
  /** Per image at 224 px. The papers say FLOPs and count multiply-accumulates. */
  macs?: number;
  /** On a Samsung Exynos 2100, in milliseconds. */
  phoneMs?: number;
  /** Who reports it. */
  source: string;
}

/** DoTCoM's README, whose authors compare mobile networks and measured the latencies themselves. */
export const DOTCOM = 'DoTCoM README';

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
  /** What others reported of it, the figures of its paper first. */
  readonly reported?: readonly Reported[];
  /** Kept to be looked at, mistakes and all: no comparison has it. */
  readonly exhibit?: true;
  /** Its Paddle counts weights and biases of batch norms as not trainable: `paddle.summary` prints that split. */
  readonly paddleSplit?: true;
}

/** An architecture, its settings' types inferred. */
export const architecture = <S extends z.ZodObject>(described: Architecture<S>): Architecture<S> => described;
