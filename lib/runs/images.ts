import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type DataOptions, formatDataset, openDataset, parseDataset } from '../data/open';
import { UserError } from '../util/errors';

/**
 * What `--data` takes for images of a fingerprint on this machine: as they are named where the trial comes from, or else one of the folders in
 * `folder`, that of the same name first. Undefined where there are none.
 */
export async function findImages(
  data: string,
  fingerprint: string,
  options: DataOptions,
  folder?: string,
): Promise<string | undefined> {
  for (const candidate of [data, ...elsewhere(data, folder)]) {
    try {
      if ((await openDataset(candidate, options)).fingerprint === fingerprint) return candidate;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
    }
  }
  return undefined;
}

function elsewhere(data: string, folder: string | undefined): string[] {
  const { kind, path, options } = parseDataset(data);
  if (kind !== 'folder' || folder === undefined || !existsSync(folder)) return [];
  const folders = readdirSync(folder).filter(name => statSync(join(folder, name)).isDirectory());
  const likely = (name: string): number => (name === basename(path) ? 0 : 1);
  return folders
    .sort((a, b) => likely(a) - likely(b) || (a < b ? -1 : 1))
    .map(name => formatDataset({ kind, path: join(folder, name), options }));
}
