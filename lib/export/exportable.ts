import { descriptionOf, type Trained } from '../train/trained';

/** A model that can leave the lab. */
export interface Exportable extends Trained {
  /** The run that it comes from. */
  run?: Provenance;
}

export interface Provenance {
  name: string;
  /** What it was trained on, in one line. */
  data: string;
  /** Fractions of the test images, of which there are `images`. */
  result: { top1: number; top5: number; images: number } | null;
  /** The command that trains it again, and the sha256 of the weights that it then ends with. */
  command: string;
  weights: string | null;
  epochs: number;
}

/** What a file of weights or a graph says of itself, as text by key. */
export function metadataOf({ run, ...trained }: Exportable): Record<string, string> {
  return {
    ...descriptionOf(trained),
    ...(run && { run: run.name, ...(run.weights && { weights: run.weights }) }),
  };
}
