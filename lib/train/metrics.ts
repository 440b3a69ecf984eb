/** What a trained network gets right, counted on the host from its logits. */

export interface ClassAccuracy {
  name: string;
  count: number;
  correct: number;
}

export interface Evaluation {
  /** Pictures evaluated. */
  count: number;
  /** Mean cross-entropy without smoothing, in nats. */
  loss: number;
  /** Share of pictures whose class is the likeliest, and among the five likeliest (of all, where there are fewer). */
  top1: number;
  top5: number;
  perClass: ClassAccuracy[];
  /** `confusion[label][prediction]` counts pictures. A model may have more outputs than there are classes. */
  confusion: number[][];
  /** By picture, in the split's order: the predicted class and its probability. */
  predictions: { predicted: number; label: number; probability: number }[];
}

/** Collects logits batch by batch. */
export function createMeter(classes: readonly string[], outputs: number): { add(logits: Float32Array, labels: Int32Array): void; result(): Evaluation } {
  const confusion = classes.map(() => new Array<number>(outputs).fill(0));
  const predictions: Evaluation['predictions'] = [];
  let loss = 0;
  let top5 = 0;
  return {
    add(logits, labels) {
      labels.forEach((label, i) => {
        const row = logits.subarray(i * outputs, (i + 1) * outputs);
        const predicted = argMax(row);
        const logSum = logSumExp(row, row[predicted]);
        loss += logSum - row[label];
        if (rank(row, label) < 5) top5++;
        confusion[label][predicted]++;
        predictions.push({ predicted, label, probability: Math.exp(row[predicted] - logSum) });
      });
    },
    result() {
      const count = predictions.length;
      const perClass = classes.map((name, label) => ({ name, count: confusion[label].reduce((a, b) => a + b, 0), correct: confusion[label][label] }));
      const correct = perClass.reduce((sum, entry) => sum + entry.correct, 0);
      return { count, loss: loss / count, top1: correct / count, top5: top5 / count, perClass, confusion, predictions };
    },
  };
}

/** The first of the largest values. */
function argMax(row: Float32Array): number {
  return row.reduce((best, value, i) => (value > row[best] ? i : best), 0);
}

/** How many outputs come before this one; of equals, the earlier. */
function rank(row: Float32Array, label: number): number {
  const own = row[label];
  return row.reduce((before, value, i) => (value > own || (value === own && i < label) ? before + 1 : before), 0);
}

function logSumExp(row: Float32Array, largest: number): number {
  return largest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}
