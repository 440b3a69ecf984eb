import { percent } from '../runs/console';
import type { Run } from '../runs/store';
import { thousands } from '../util/tables';
import { counted } from '../util/text';

/** A run as a row of a table, in words that a person reads. */
export interface ResultRow {
  run: string;
  model: string;
  data: string;
  params: string;
  macs: string;
  top1: string;
  top5: string;
  imagesPerSecond: string;
}

export const RESULT_COLUMNS: Record<keyof ResultRow, string> = {
  run: 'run',
  model: 'model',
  data: 'data',
  params: 'params',
  macs: 'MACs',
  top1: 'top-1',
  top5: 'top-5',
  imagesPerSecond: 'train img/s',
};

/** What is not there yet is a dash. */
export function resultRow({ record }: Run): ResultRow {
  const { name, model, dataset, recipe, result } = record;
  const { size } = recipe;
  const pixels = typeof size === 'number' ? size : size.join('×');
  return {
    run: name,
    model: recipe.ablation === null ? model.name : `${model.name} (${recipe.ablation})`,
    data: `${dataset.name}, ${counted(dataset.classes.length, 'class', 'classes')}, ${pixels} px`,
    params: thousands(model.params),
    macs: `${(model.macs / 1e6).toFixed(1)} M`,
    top1: result ? percent(result.top1) : '–',
    top5: result ? percent(result.top5) : '–',
    imagesPerSecond: result?.imagesPerSecond ? result.imagesPerSecond.toFixed(1) : '–',
  };
}
