import type { Model } from '../model/module';
import { architectureOf } from '../model/registry';
import type { Tensor } from '../tensor/tf';
import { alignColumns, thousands } from '../util/tables';
import { countConfig, totalCount, walkLayers } from './count';

/** A row of `paddle.summary`: shapes in channels-first order, own parameters, running statistics included. */
export interface SummaryRow {
  /** Type and number, as Paddle prints them: `Conv2D-1`. */
  layer: string;
  /** Official name of the module: `blocks1.0.LocalAgg.conv1`. */
  module: string;
  input: number[];
  output: number[];
  params: number;
}

export interface Summary {
  rows: SummaryRow[];
  /** Trainable parameters and running statistics. */
  total: number;
  trainable: number;
  nonTrainable: number;
  /** The split that the article prints: all that batch norms hold counts as not trainable. Only for its models. */
  articleSplit?: { trainable: number; nonTrainable: number };
  /** Float32, in units of 2^20 bytes; forward/backward is twice all outputs of the table. */
  megabytes: { input: number; forwardBackward: number; params: number; total: number };
  /** Multiply-accumulates of one image. */
  macs: number;
}

/** What `paddle.summary` says of a model at a batch size: its layers in the order in which they finish. */
export function summarise(model: Model, batch: number): Summary {
  const owned = ownParameters(model);
  const numbers = new Map<string, number>();
  const rows: SummaryRow[] = [];
  // Only a shape's first side depends on the batch; two images are enough to meet a model that takes but one.
  walkLayers(model, Math.min(batch, 2), (module, kind, input, output) => {
    if (kind === 'DotProductAttention') return; // a function, not a layer
    numbers.set(kind, (numbers.get(kind) ?? 0) + 1);
    const shape = (tensor: Tensor) => [batch, ...printedShape(kind, tensor.shape).slice(1)];
    rows.push({
      layer: `${kind}-${numbers.get(kind)}`,
      module,
      input: shape(input),
      output: shape(output),
      params: owned.get(module) ?? 0,
    });
  });
  const trainable = countValues(model.params);
  const nonTrainable = countValues(model.buffers);
  const total = trainable + nonTrainable;
  const megabytes = (floats: number) => (floats * 4) / 2 ** 20;
  const input = megabytes(batch * 3 * model.inputSize[0] * model.inputSize[1]);
  const forwardBackward = megabytes(2 * rows.reduce((sum, row) => sum + row.output.reduce((a, b) => a * b, 1), 0));
  const params = megabytes(total);
  const inBatchNorms = rows
    .filter(row => row.layer.startsWith('BatchNorm2D'))
    .reduce((sum, row) => sum + row.params, 0);
  return {
    rows,
    total,
    trainable,
    nonTrainable,
    ...(architectureOf(model.name).paddleSplit && {
      articleSplit: { trainable: total - inBatchNorms, nonTrainable: inBatchNorms },
    }),
    megabytes: { input, forwardBackward, params, total: input + forwardBackward + params },
    macs: totalCount(countConfig(model)).macs,
  };
}

/** The table as text, with totals below. */
export function formatSummary(summary: Summary): string {
  const { rows, total, trainable, nonTrainable, articleSplit, megabytes, macs } = summary;
  const cells = [
    ['Layer (type)', 'Input Shape', 'Output Shape', 'Param #'],
    ...rows.map(row => [row.layer, bracketed(row.input), bracketed(row.output), thousands(row.params)]),
  ];
  const lines = alignColumns(cells, [false, false, false, true], { gap: '   ' });
  const rule = (character: string) => character.repeat(lines[0].length);
  const size = (label: string, value: number) => `${label} (MB): ${value.toFixed(2)}`;
  return [
    rule('-'),
    lines[0],
    rule('='),
    ...lines.slice(1),
    rule('='),
    `Total params: ${thousands(total)}`,
    `Trainable params: ${thousands(trainable)}`,
    `Non-trainable params: ${thousands(nonTrainable)}`,
    ...(articleSplit
      ? [
          `The article prints ${thousands(articleSplit.trainable)} + ${thousands(articleSplit.nonTrainable)}: its Paddle counts weights and biases of the two batch norms`,
          `(${thousands(articleSplit.nonTrainable - nonTrainable)}) as not trainable too; Paddle 2.6 and 3.3 count only their running statistics (${thousands(nonTrainable)}), as here.`,
        ]
      : []),
    rule('-'),
    size('Input size', megabytes.input),
    size('Forward/backward pass size', megabytes.forwardBackward),
    size('Params size', megabytes.params),
    size('Estimated Total Size', megabytes.total),
    `MACs per image (M): ${(macs / 1e6).toFixed(1)}`,
    rule('-'),
  ].join('\n');
}

/** Linear layers and layer norms see tokens [b, n, c], all others images [b, c, h, w]. */
function printedShape(kind: string, shape: readonly number[]): number[] {
  if (shape.length !== 4) return [...shape];
  const [b, h, w, c] = shape;
  return kind === 'Linear' || kind === 'LayerNorm' ? [b, h * w, c] : [b, c, h, w];
}

function ownParameters({ params, buffers }: Model): Map<string, number> {
  const owned = new Map<string, number>();
  for (const spec of [...params, ...buffers]) {
    const module = spec.name.slice(0, Math.max(0, spec.name.lastIndexOf('.')));
    owned.set(module, (owned.get(module) ?? 0) + countValues([spec]));
  }
  return owned;
}

const countValues = (specs: Model['params']): number =>
  specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
const bracketed = (shape: number[]): string => `[${shape.join(', ')}]`;
