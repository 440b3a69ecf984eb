import { alignColumns, thousands } from '../util/tables';
import { type Counts, totalCount } from './count';
import type { Model } from './module';

/** By which Node, and so a notebook or `console.log`, asks an object to describe itself. */
export const INSPECT = Symbol.for('nodejs.util.inspect.custom');

/** A network as a table of its layers: parameters and MACs per image of each module that has any. */
export function describeModel(
  { name, numClasses, inputSize }: Pick<Model, 'name' | 'numClasses' | 'inputSize'>,
  counts: Counts,
): string {
  const total = totalCount(counts);
  const rows = [...counts]
    .filter(([, { params, macs }]) => params > 0 || macs > 0)
    .map(([module, { params, macs }]) => [module, thousands(params), thousands(macs)]);
  const lines = alignColumns(
    [['layer', 'parameters', 'MACs'], ...rows, ['total', thousands(total.params), thousands(total.macs)]],
    [false, true, true],
  );
  return [`${name}: images [b, ${inputSize.join(', ')}, 3] → logits [b, ${numClasses}]`, ...lines].join('\n');
}
