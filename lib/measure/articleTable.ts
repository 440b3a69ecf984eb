import type { Summary, SummaryRow } from './summary';

type PrintedRow = Omit<SummaryRow, 'module'>;

/** A summary as somebody printed it. */
export interface PrintedSummary extends Pick<Summary, 'total' | 'trainable' | 'nonTrainable' | 'megabytes'> {
  rows: readonly PrintedRow[];
}

const picture = [1, 3, 224, 224];
const map = [1, 48, 56, 56];
const tokens = [1, 3136, 48];

const row = (layer: string, input: number[], output: number[], params: number): PrintedRow => ({
  layer,
  input,
  output,
  params,
});

/** What the teaching article prints with `paddle.summary` for its model (lib/model/baselines/article.ts) and one image. Reported, not computed. */
export const ARTICLE_TABLE: PrintedSummary = {
  rows: [
    row('Conv2D-1', picture, map, 2352),
    row('DownSampleLayer-1', picture, map, 0),
    row('Conv2D-2', map, map, 480),
    row('PatchEmbed-1', map, map, 0),
    row('BatchNorm2D-1', map, map, 192),
    row('Conv2D-3', map, map, 2352),
    row('Conv2D-4', map, map, 480),
    row('BatchNorm2D-2', map, map, 192),
    row('Conv2D-5', map, map, 2352),
    row('LocalAgg-1', map, map, 0),
    row('Residual-1', map, map, 0),
    row('Linear-1', tokens, [1, 3136, 192], 9408),
    row('Linear-2', [1, 3136, 192], tokens, 9264),
    row('FFN-1', map, map, 0),
    row('Residual-2', map, map, 0),
    row('Conv2D-6', map, map, 480),
    row('PatchEmbed-2', map, map, 0),
    row('AvgPool2D-1', map, [1, 48, 14, 14], 0),
    row('Linear-3', [1, 196, 48], [1, 196, 144], 7056),
    row('Conv2DTranspose-1', [1, 48, 14, 14], map, 816),
    row('Linear-4', tokens, tokens, 2352),
    row('GlobalSparseAttn-1', map, map, 0),
    row('Residual-3', map, map, 0),
    row('Linear-5', [1, 150528], [1, 103], 15504487),
  ],
  total: 15542263,
  trainable: 15541879,
  nonTrainable: 384,
  megabytes: { input: 0.57, forwardBackward: 27.85, params: 59.29, total: 87.71 },
};

/** A printed row beside the computed one at the same place, and whether layer, shapes and parameters agree. */
export interface RowComparison {
  printed?: PrintedRow;
  computed?: SummaryRow;
  agrees: boolean;
}

export function compareRows(printed: PrintedSummary, computed: Summary): RowComparison[] {
  return Array.from({ length: Math.max(printed.rows.length, computed.rows.length) }, (_, i) => {
    const [was, is] = [printed.rows[i], computed.rows[i]];
    const text = (row: PrintedRow) => [row.layer, row.input, row.output, row.params].join('|');
    return { printed: was, computed: is, agrees: was !== undefined && is !== undefined && text(was) === text(is) };
  });
}
