import { type Count, type Counts, totalCount } from './count';

/** What EdgeViT's modules are for, as the paper's figure 2 groups them. */
export const PARTS = [
  'patch embedding',
  'LocalAgg',
  'attention',
  'LocalProp',
  'FFN',
  'position encoding',
  'head',
] as const;

export type CostPart = (typeof PARTS)[number];

/** What one part of one stage holds and does. */
export interface Cost extends Pick<Count, 'params' | 'macs'> {
  /** 1 to 4; 5 is what follows the stages. */
  stage: number;
  part: CostPart;
}

/** The costs of an EdgeViT by stage and part, in the order of the network; they sum to those of the whole. */
export function edgeViTCosts(counts: Counts): Cost[] {
  const costs = new Map<string, Cost>();
  for (const [module, { params, macs }] of counts) {
    const stage = Number(/^(?:patch_embed|blocks)(\d)/.exec(module)?.[1] ?? 5);
    const part = partOf(module);
    const cost = costs.get(`${stage} ${part}`) ?? { stage, part, params: 0, macs: 0 };
    costs.set(`${stage} ${part}`, { ...cost, params: cost.params + params, macs: cost.macs + macs });
  }
  return [...costs.values()].sort((a, b) => a.stage - b.stage || PARTS.indexOf(a.part) - PARTS.indexOf(b.part));
}

function partOf(module: string): CostPart {
  if (module.startsWith('patch_embed')) return 'patch embedding';
  if (!module.startsWith('blocks')) return 'head';
  if (module.includes('.pos_embed')) return 'position encoding';
  if (module.includes('.mlp.') || module.endsWith('.norm2')) return 'FFN';
  if (module.includes('.LocalAgg.')) return 'LocalAgg';
  return /\.attn\.(LocalProp|norm)$/.test(module) ? 'LocalProp' : 'attention';
}

/** The fraction of each cost in the whole, by what is counted. */
export function shareOf(
  costs: readonly Cost[],
  counts: Counts,
  what: 'params' | 'macs',
  belongs: (cost: Cost) => boolean,
): number {
  return costs.filter(belongs).reduce((sum, cost) => sum + cost[what], 0) / totalCount(counts)[what];
}
