import type { IMimeBundle } from '@jupyterlab/nbformat';
import { describe } from './text';

/** JSON has no word for some values: of those that can be written otherwise, what was written instead. */
export interface Serialised {
  json: IMimeBundle;
  told: string[];
}

/** Of what front ends read as text, whatever is in it; other types may be JSON. */
const TEXT = /^(text|image|audio|video)\/|^application\/(javascript|pdf)$/;
/** Of these, the ones whose bytes are characters. */
const CHARACTERS = /^text\/|\+xml$|javascript$/;
/** Whatever reads it by recursion breaks on more, as Python does, and so the server of JupyterLab. */
const MAX_DEPTH = 400;

/**
 * A MIME bundle as Jupyter sends it: bytes as base64, the rest as JSON. Throws a TypeError that names the place of a BigInt, of an
 * object that contains itself or lies too deep, and of what is no text where text is wanted; tells of NaN, infinities, maps, sets and
 * functions, which `JSON.stringify` would drop without a word.
 */
export function toJson(data: Record<string, unknown>): Serialised {
  const told: string[] = [];
  const json = Object.entries(data).map(([mime, value]) => [
    mime,
    TEXT.test(mime)
      ? text(value, mime, told)
      : value instanceof Uint8Array
        ? base64(value)
        : plain(value, mime, '', [], told),
  ]);
  return { json: Object.fromEntries(json), told };
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

function text(value: unknown, mime: string, told: string[]): unknown {
  const bytes = value instanceof ArrayBuffer ? new Uint8Array(value) : value;
  if (bytes instanceof Uint8Array) return CHARACTERS.test(mime) ? Buffer.from(bytes).toString() : base64(bytes);
  if (typeof value === 'string' || (Array.isArray(value) && value.every(line => typeof line === 'string')))
    return value;
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (value !== undefined)
    throw impossible(`what is shown as ${mime} is ${describe(value, { depth: 0 })}: it must be text or bytes.`);
  told.push(`what is shown as ${mime} is undefined: it is left out.`);
  return undefined;
}

/** The frames of whoever walks through the value tell nobody anything, and could hide the cell's. */
function impossible(message: string): TypeError {
  const error = new TypeError(message);
  Error.captureStackTrace(error, toJson);
  return error;
}

function plain(value: unknown, mime: string, path: string, around: readonly object[], told: string[]): unknown {
  const where = path === '' ? `what is shown as ${mime}` : path.replace(/^\./, '');
  if (typeof value === 'bigint')
    throw impossible(`${where} is the BigInt ${value}, which JSON cannot hold: make it a Number or a String.`);
  if (typeof value === 'number' && !Number.isFinite(value)) {
    told.push(`${where} is ${value}, which JSON cannot hold: it is shown as null.`);
    return null;
  }
  if (typeof value === 'function' || typeof value === 'symbol') {
    told.push(`${where} is a ${typeof value}, which JSON cannot hold: it is left out.`);
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return value;
  if (around.includes(value)) throw impossible(`${where} is an object that contains itself, which JSON cannot hold.`);
  if (around.length >= MAX_DEPTH)
    throw impossible(`what is shown as ${mime} is nested more than ${MAX_DEPTH} deep, which front ends cannot read.`);
  if (value instanceof Date && Number.isNaN(value.getTime()))
    told.push(`${where} is an invalid date, which JSON cannot hold: it is shown as null.`);
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
