import { exp, log } from '../util/elementary';

/** What a trained network gets right, counted on the host from its logits. */

export interface ClassAccuracy {
  name: string;
  count: number;
  correct: number;
}

export interface Evaluation {
  /** Images evaluated. */
  count: number;
  /** Mean cross-entropy without smoothing, in nats; null in a file where it was not finite. */
  loss: number | null;
  /** Share of images whose class is the likeliest, and among the five likeliest (of all, where there are fewer). */
  top1: number;
  top5: number;
  perClass: ClassAccuracy[];
  /** `confusion[label][prediction]` counts images. A model may have more outputs than there are classes. */
  confusion: number[][];
}

/** By image, in the split's order. */
export interface Predictions {
  labels: number[];
  /** The five likeliest outputs (all, where there are fewer), the likeliest first; and their probabilities, null in a file where not finite. */
  top: number[][];
  probabilities: (number | null)[][];
}

export interface DetailedEvaluation extends Evaluation {
  predictions: Predictions;
}

const LISTED = 5;

/** Collects logits batch by batch. */
export function createMeter(
  classes: readonly string[],
  outputs: number,
): { add(logits: Float32Array, labels: Int32Array): void; result(): DetailedEvaluation } {
  const confusion = classes.map(() => new Array<number>(outputs).fill(0));
  const predictions: Predictions = { labels: [], top: [], probabilities: [] };
  let loss = 0;
  let top5 = 0;
  return {
    add(logits, labels) {
      labels.forEach((label, i) => {
        const row = logits.subarray(i * outputs, (i + 1) * outputs);
        const top = largest(row, LISTED);
        const logSum = logSumExp(row, row[top[0]]);
        loss += logSum - row[label];
        if (top.includes(label)) top5++;
        confusion[label][top[0]]++;
        predictions.labels.push(label);
        predictions.top.push(top);
        predictions.probabilities.push(top.map(output => exp(row[output] - logSum)));
      });
    },
    result() {
      const count = predictions.labels.length;
      const perClass = classes.map((name, label) => ({
        name,
        count: confusion[label].reduce((a, b) => a + b, 0),
        correct: confusion[label][label],
      }));
      const correct = perClass.reduce((sum, entry) => sum + entry.correct, 0);
      return { count, loss: loss / count, top1: correct / count, top5: top5 / count, perClass, confusion, predictions };
    },
  };
}

/** Where the largest values are, in falling order; of equal ones, the earlier first. NaN, which no order holds, comes last. */
function largest(row: Float32Array, count: number): number[] {
  const order = (value: number): number => (Number.isNaN(value) ? -Infinity : value);
  return Array.from(row.keys())
    .sort((a, b) => order(row[b]) - order(row[a]) || a - b)
    .slice(0, count);
}

function logSumExp(row: Float32Array, largest: number): number {
  return largest + log(row.reduce((sum, value) => sum + exp(value - largest), 0));
}
