import { metricRowSchema } from './schemas';

/* metrics.jsonl: one row per step and one per epoch. */

export type MetricRow =
  | { kind: 'step'; step: number; epoch: number; learningRate: number; loss: number }
  | {
      kind: 'epoch';
      step: number;
      epoch: number;
      learningRate: number;
      trainLoss: number | null;
      trainTop1: number;
      on: 'val' | 'test';
      evalLoss: number | null;
      evalTop1: number;
      evalTop5: number;
      imagesPerSecond: number | null;
    };
export type EpochRow = Extract<MetricRow, { kind: 'epoch' }>;

const NEWLINE = 10;
/** Bytes of a row, which has a dozen numbers. */
const MAX_ROW = 4096;

/**
 * The rows of metrics.jsonl, of which anyone may have written whatever is in it: the first that is none ends it, however many follow. A last line
 * that a crash cut short is left out.
 */
export function parseMetrics(
  bytes: Buffer,
  refuse: (line: number, why: string) => never,
  maxRows = Infinity,
): MetricRow[] {
  const rows: MetricRow[] = [];
  for (let from = 0; from < bytes.length; ) {
    const end = bytes.indexOf(NEWLINE, from);
    if (end < 0) break;
    const line = rows.length + 1;
    if (line > maxRows) refuse(line, `at most ${maxRows} are read`);
    if (end - from > MAX_ROW) refuse(line, `it has more than ${MAX_ROW} bytes`);
    rows.push(parseRow(bytes.toString('utf8', from, end), why => refuse(line, why)));
    from = end + 1;
  }
  return rows;
}

function parseRow(line: string, refuse: (why: string) => never): MetricRow {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    refuse('it is not JSON');
  }
  const { success, data, error } = metricRowSchema.safeParse(value);
  return success ? data : refuse([...error.issues[0].path, error.issues[0].message].join(' '));
}
