import { UserError } from '../util/errors';
import type { Dataset } from './dataset';
import { type Flowers102Options, flowers102 } from './sources/flowers102';
import { imageFolder } from './sources/folder';
import { petals } from './sources/petals';

export type DataOptions = Flowers102Options;

/** `key=value,key=value` → record. */
function parsePairs(text: string, spec: string): Record<string, string> {
  return Object.fromEntries(
    text
      .split(',')
      .filter(Boolean)
      .map(pair => {
        const at = pair.indexOf('=');
        if (at < 1) throw new UserError(`The dataset '${spec}' has '${pair}' where key=value is expected.`);
        return [pair.slice(0, at), pair.slice(at + 1)];
      }),
  );
}

/**
 * Opens the dataset that a command line names: `petals[:key=value,…]`, `folder:PATH` or `flowers102[:split=official|paddle]`.
 * Throws a UserError for one that doesn't exist or can't be used.
 */
export async function openDataset(spec: string, options: DataOptions = {}): Promise<Dataset> {
  const [, kind, rest] = /^([^:]*):?(.*)$/s.exec(spec)!;
  switch (kind) {
    case 'petals':
      return petals(parsePairs(rest, spec));
    case 'folder':
      if (rest === '') throw new UserError("The dataset 'folder:' lacks its path: folder:PATH is expected.");
      return imageFolder(rest, options);
    case 'flowers102':
      return flowers102(parsePairs(rest, spec), options);
    default:
      throw new UserError(
        `Unknown dataset '${spec}': allowed are petals[:key=value,…], folder:PATH and flowers102[:split=official|paddle].`,
      );
  }
}
