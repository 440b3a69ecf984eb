import { existsSync } from 'node:fs';
import { UserError } from '../util/errors';
import type { Dataset } from './dataset';
import type { Source } from './source';
import { FLOWERS102, type Flowers102Options } from './sources/flowers102';
import { FOLDER } from './sources/folder';
import { PETALS } from './sources/petals';

export type DataOptions = Flowers102Options;

/** All kinds of datasets by name. A new one is a file in sources/, and a line here. */
const SOURCES: Readonly<Record<string, Source<DataOptions>>> = {
  petals: PETALS,
  folder: FOLDER,
  flowers102: FLOWERS102,
};

/** A kind of dataset; undefined for one that does not exist. */
export const sourceOf = (kind: string): Source<DataOptions> | undefined =>
  Object.hasOwn(SOURCES, kind) ? SOURCES[kind] : undefined;

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

/** What a command line says of a dataset: its kind, the path of a folder, and options. */
export interface DatasetSpec {
  kind: string;
  /** Of a folder; empty for the others. */
  path: string;
  options: Record<string, string>;
}

export const DATASET_SPECS = Object.values(SOURCES)
  .map(({ spec }) => spec)
  .join(' or ');

/** Takes a dataset's name apart, without opening it. A path may have colons itself: options are what begins like `key=` behind the last one. Throws UserError. */
export function parseDataset(spec: string): DatasetSpec {
  const [, kind, rest] = /^([^:]*):?(.*)$/s.exec(spec)!;
  if (!sourceOf(kind)?.hasPath) return { kind, path: '', options: parsePairs(rest, spec) };
  const [, path, pairs] = /^(.*):([A-Za-z]\w*=[^:]*)$/s.exec(rest) ?? [undefined, rest, ''];
  if (pairs !== '' && existsSync(rest)) return { kind, path: rest, options: {} };
  return { kind, path, options: parsePairs(pairs, spec) };
}

/** What `parseDataset` takes apart, in one piece again. */
export function formatDataset({ kind, path, options }: DatasetSpec): string {
  const pairs = Object.entries(options).map(pair => pair.join('='));
  return [kind, ...(path === '' ? [] : [path]), ...(pairs.length === 0 ? [] : [pairs.join()])].join(':');
}

/** Opens the dataset that a command line names (`DATASET_SPECS`). Throws a UserError for one that doesn't exist or can't be used. */
export async function openDataset(spec: string, options: DataOptions = {}): Promise<Dataset> {
  const kind = spec.split(':', 1)[0];
  const source = sourceOf(kind);
  if (!source) throw unknownDataset(spec);
  const { path, options: own } = parseDataset(spec);
  if (source.hasPath && path === '')
    throw new UserError(`The dataset '${kind}:' lacks its path: ${kind}:PATH is expected.`);
  return source.open(own, options, path);
}

function unknownDataset(spec: string): UserError {
  const isPath = existsSync(spec) || existsSync(spec.replace(/:[^:]*$/, '')) || /[/\\~]/.test(spec);
  return new UserError(
    isPath
      ? `'${spec}' is no dataset: did you mean folder:${spec}? Allowed are ${DATASET_SPECS}.`
      : `Unknown dataset '${spec}': allowed are ${DATASET_SPECS}.`,
  );
}
