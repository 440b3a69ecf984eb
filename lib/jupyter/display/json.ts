import type { IMimeBundle } from '@jupyterlab/nbformat';

/** JSON has no word for some values: of those that can be written otherwise, what was written instead. */
export interface Serialised {
  json: IMimeBundle;
  told: string[];
}

/**
 * A MIME bundle as Jupyter sends it: bytes as base64, the rest as JSON. Throws a TypeError that names the place of a BigInt or of an
 * object that contains itself; tells of NaN, infinities, maps, sets and functions, which `JSON.stringify` would drop without a word.
 */
export function toJson(data: Record<string, unknown>): Serialised {
  const told: string[] = [];
  const json = Object.entries(data).map(([mime, value]) => {
    if (value instanceof Uint8Array) return [mime, Buffer.from(value).toString('base64')];
    return [mime, typeof value === 'string' ? value : plain(value, mime, '', [], told)];
  });
  return { json: Object.fromEntries(json), told };
}

function plain(value: unknown, mime: string, path: string, around: readonly object[], told: string[]): unknown {
  const where = path === '' ? `what is shown as ${mime}` : path.replace(/^\./, '');
  if (typeof value === 'bigint')
    throw new TypeError(`${where} is the BigInt ${value}, which JSON cannot hold: make it a Number or a String.`);
  if (typeof value === 'number' && !Number.isFinite(value)) {
    told.push(`${where} is ${value}, which JSON cannot hold: it is shown as null.`);
    return null;
  }
  if (typeof value === 'function' || typeof value === 'symbol') {
    told.push(`${where} is a ${typeof value}, which JSON cannot hold: it is left out.`);
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return value;
  if (around.includes(value))
    throw new TypeError(`${where} is an object that contains itself, which JSON cannot hold.`);
  const within = [...around, value];
  const { toJSON } = value as { toJSON?: unknown };
  if (typeof toJSON === 'function') return plain(toJSON.call(value, ''), mime, path, within, told);
  if (value instanceof Map || value instanceof Set) {
    const kind = value instanceof Map ? 'Map' : 'Set';
    told.push(
      `${where} is a ${kind}, which JSON cannot hold: it is shown as an array of its ${kind === 'Map' ? 'entries' : 'values'}.`,
    );
  }
  const list =
    Array.isArray(value) || ArrayBuffer.isView(value) || value instanceof Map || value instanceof Set
      ? Array.from(value as Iterable<unknown>)
      : undefined;
  if (list) return list.map((entry, i) => plain(entry, mime, `${path}[${i}]`, within, told) ?? null);
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, plain(entry, mime, `${path}.${key}`, within, told)]),
  );
}
