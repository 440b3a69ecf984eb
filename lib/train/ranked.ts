/** What a model takes an image for. */
export interface ClassProbability {
  /** The class's number: where it stands among the outputs. */
  label: number;
  name: string;
  probability: number;
}

/** All classes, the likeliest first; of equal ones, the earlier. */
export function ranked(probabilities: ArrayLike<number>, names: readonly string[]): ClassProbability[] {
  return Array.from(probabilities, (probability, label) => ({ name: names[label]!, label, probability })).sort(
    (a, b) => b.probability - a.probability || a.label - b.label,
  );
}
