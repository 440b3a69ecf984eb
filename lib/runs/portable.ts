import { basename, isAbsolute, relative, resolve, sep } from 'node:path';
import { formatDataset, parseDataset } from '../data/open';
import { ROOT } from '../util/root';
import type { KeptDataOptions, RunRecord } from './store';

/**
 * What `--data` says, by paths that mean something elsewhere: a folder inside the checkout by its path there, any other by its name. A table of
 * labels is looked for in the folder, too.
 */
export function portableData(data: string): string {
  const { kind, path, options } = parseDataset(data);
  if (kind !== 'folder') return data;
  const { labels } = options;
  return formatDataset({
    kind,
    path: portablePath(path),
    options: { ...options, ...(labels !== undefined && isAbsolute(labels) && { labels: basename(labels) }) },
  });
}

/** What `--data` says, by a path that means the same from every folder: a run is resumed and told of from anywhere. */
export function absoluteData(data: string, base = process.cwd()): string {
  const { kind, path, options } = parseDataset(data);
  return kind === 'folder' && path !== '' ? formatDataset({ kind, path: resolve(base, path), options }) : data;
}

/** The folder that `folder:PATH` names; undefined for other datasets. */
export function folderOf(data: string): string | undefined {
  const { kind, path } = parseDataset(data);
  return kind === 'folder' ? path : undefined;
}

export function portablePath(folder: string): string {
  const inside = relative(ROOT, resolve(folder)).split(sep).join('/');
  return isAbsolute(inside) || inside.startsWith('..') ? basename(resolve(folder)) : inside;
}

/** Data options without this machine's folders: those that decide what is trained on. */
export function portableOptions({ side, decode, strict }: KeptDataOptions): KeptDataOptions {
  return {
    ...(side !== undefined && { side }),
    ...(decode !== undefined && { decode }),
    ...(strict !== undefined && { strict }),
  };
}

/** What a record says of its data, without this machine's folders. */
export function portableRecord<R extends Pick<RunRecord, 'recipe' | 'dataset' | 'dataOptions'>>(record: R): R {
  const { recipe, dataset, dataOptions } = record;
  const folder = folderOf(recipe.data);
  const shorten = (text: string): string =>
    folder !== undefined && text.endsWith(folder) ? text.slice(0, -folder.length) + portablePath(folder) : text;
  return {
    ...record,
    recipe: { ...recipe, data: portableData(recipe.data) },
    dataset: { ...dataset, description: shorten(dataset.description) },
    dataOptions: portableOptions(dataOptions),
  };
}
