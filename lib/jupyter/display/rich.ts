import { escapeHtml } from '../../util/html';
import { describe } from './text';

/** A value as an output: its text, and what shows it better where a front end can. */
export interface Rich {
  data: Record<string, unknown>;
  metadata: Record<string, never>;
}

/** Of Deno's notebooks: a method by which an object says how it is shown. */
const DISPLAY = Symbol.for('Jupyter.display');
const INSPECT = Symbol.for('nodejs.util.inspect.custom');

/** The last value of a cell. */
export async function rich(value: unknown): Promise<Rich> {
  const own = await ownDisplay(value);
  if (own) return { data: own, metadata: {} };
  knowTensors(value);
  const data: Record<string, unknown> = { 'text/plain': layersOf(value) ?? describe(value) };
  const image = await imageOf(value);
  if (image) Object.assign(data, image);
  else if (!isModel(value) && isWorthATree(value, String(data['text/plain']))) data['text/html'] = tree(value);
  return { data, metadata: {} };
}

async function ownDisplay(value: unknown): Promise<Record<string, unknown> | undefined> {
  const method = property(value, DISPLAY);
  if (typeof method !== 'function') return undefined;
  const bundle: unknown = await method.call(value);
  if (typeof bundle !== 'object' || bundle === null || Array.isArray(bundle))
    throw new TypeError(
      `Symbol.for("Jupyter.display") must give a MIME bundle such as { "text/html": "…" }, not ${describe(bundle)}.`,
    );
  return bundle as Record<string, unknown>;
}

/** The first bytes of images that every front end shows. */
const IMAGES: Record<string, readonly number[]> = {
  'image/png': [0x89, 0x50, 0x4e, 0x47],
  'image/jpeg': [0xff, 0xd8, 0xff],
  'image/gif': [0x47, 0x49, 0x46, 0x38],
};

/** Encoded images, and images of sharp. */
async function imageOf(value: unknown): Promise<Record<string, unknown> | undefined> {
  if (value instanceof Uint8Array) {
    const [type] = Object.entries(IMAGES).find(([, start]) => start.every((byte, i) => value[i] === byte)) ?? [];
    return type === undefined ? undefined : { [type]: value };
  }
  const isSharp = ['png', 'toBuffer', 'metadata'].every(name => typeof property(value, name) === 'function');
  if (!isSharp) return undefined;
  const picture = value as { clone(): { png(): { toBuffer(): Promise<Buffer> } } };
  return { 'image/png': await picture.clone().png().toBuffer() };
}

/** A model says what its layers are: by its own description, or as those of TensorFlow.js by `summary()`. */
function isModel(value: unknown): boolean {
  const summarises = Array.isArray(property(value, 'layers')) && typeof property(value, 'summary') === 'function';
  return (
    summarises || (typeof property(value, INSPECT) === 'function' && typeof property(value, 'forward') === 'function')
  );
}

function layersOf(value: unknown): string | undefined {
  const summary = property(value, 'summary');
  if (!isModel(value) || typeof summary !== 'function') return undefined;
  const lines: string[] = [];
  summary.call(value, undefined, undefined, (line: unknown) => lines.push(String(line)));
  return lines.join('\n').trimEnd();
}

interface TensorLike {
  dtype: string;
  shape: number[];
  isDisposed: boolean;
  toString(verbose?: boolean): string;
}

function isTensor(value: unknown): value is TensorLike {
  return (
    typeof property(value, 'dataSync') === 'function' &&
    Array.isArray(property(value, 'shape')) &&
    typeof property(value, 'dtype') === 'string'
  );
}

/** Shape, dtype and values, as tensors of TensorFlow.js print them, instead of how they are kept. */
function describeTensor(this: TensorLike): string {
  const title = `Tensor ${this.dtype} [${this.shape.join(', ')}]`;
  if (this.isDisposed) return `${title} (disposed)`;
  return `${title}\n${this.toString().replace(/^Tensor\n/, '')}`;
}

/** Teaches the classes of the tensors among these values, and one level inside them, to describe themselves in `console.log` and everywhere. */
export function knowTensors(...values: unknown[]): void {
  for (const value of values) {
    if (typeof value !== 'object' || value === null) continue;
    const within = isTensor(value) || ArrayBuffer.isView(value) ? [] : entriesOf(value).first;
    for (const candidate of [value, ...within.map(([, entry]) => entry)])
      if (isTensor(candidate)) teach(Object.getPrototypeOf(candidate) as object);
  }
}

/** The same for a module that has the class, so that tensors deep inside other objects are described too. */
export function knowTensorsOf(exports: unknown): void {
  for (const module of [exports, property(exports, 'tf'), property(exports, 'default')]) {
    const prototype = property(property(module, 'Tensor'), 'prototype');
    if (typeof property(prototype, 'dataSync') === 'function') teach(prototype as object);
  }
}

function teach(prototype: object): void {
  let root: object = prototype; // a class that others extend
  for (let up = Object.getPrototypeOf(root); up && 'dataSync' in up; up = Object.getPrototypeOf(up)) root = up;
  if (INSPECT in root) return;
  Object.defineProperty(root, INSPECT, { value: describeTensor, configurable: true, writable: true });
}

/** A property, or nothing if there is none or it cannot be read. */
function property(value: unknown, name: string | symbol): unknown {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return undefined;
  try {
    return (value as Record<string | symbol, unknown>)[name];
  } catch {
    return undefined;
  }
}

/** What text shows badly: collections and instances, and whatever takes more than a line. */
function isWorthATree(value: unknown, text: string): value is object {
  if (typeof value !== 'object' || value === null || isTensor(value)) return false;
  try {
    if (value instanceof Error || value instanceof Date || value instanceof RegExp || value instanceof Promise)
      return false;
    const prototype = Object.getPrototypeOf(value);
    const isPlain = prototype === null || prototype === Object.prototype || Array.isArray(value);
    return entriesOf(value).count > 0 && (!isPlain || text.includes('\n'));
  } catch {
    return false;
  }
}

const MAX_ENTRIES = 100;
const MAX_DEPTH = 6;
/** Of a whole tree; what is beyond is not sent to the browser. */
const MAX_NODES = 2000;

/** A value as nested lists that open on a click. */
function tree(value: object): string {
  let nodes = 0;
  const branch = (title: string, content: unknown, depth: number, around: readonly unknown[]): string => {
    nodes++;
    const isOpenable = typeof content === 'object' && content !== null && !around.includes(content);
    const { first, count } =
      isOpenable && depth < MAX_DEPTH && nodes < MAX_NODES && !isTensor(content) ? entriesOf(content) : NO_ENTRIES;
    const name = title === '' ? '' : `${escapeHtml(title)}: `;
    if (count === 0)
      return `<div style="margin-left: 1.2em">${name}${escapeHtml(describe(content, { depth: 0, breakLength: Infinity }))}</div>`;
    const shown = first.map(([key, entry]) =>
      branch(content instanceof Map ? `${describe(key, { depth: 0 })} =>` : String(key), entry, depth + 1, [
        ...around,
        content,
      ]),
    );
    if (count > shown.length) shown.push(`<div style="margin-left: 1.2em">… ${count - shown.length} more</div>`);
    return `<details${depth === 0 ? ' open' : ''} style="margin-left: ${depth === 0 ? 0 : 1.2}em"><summary>${name}${escapeHtml(describe(content, { depth: -1 }).replace(/^\[(.*)\]$/, '$1'))}</summary>${shown.join('')}</details>`;
  };
  return `<div style="font-family: monospace; white-space: pre-wrap">${branch('', value, 0, [])}</div>`;
}

interface Entries {
  /** No more than MAX_ENTRIES: a tensor's values may be a hundred million. */
  first: [key: unknown, entry: unknown][];
  count: number;
}

const NO_ENTRIES: Entries = { first: [], count: 0 };

/** What a collection or an object holds; getters are not run to look at it. Nothing of what cannot be looked at. */
function entriesOf(value: object): Entries {
  try {
    if (value instanceof Map || value instanceof Set) {
      const first: Entries['first'] = [];
      for (const [key, entry] of value.entries()) {
        if (first.length === MAX_ENTRIES) break;
        first.push([value instanceof Map ? key : first.length, entry]);
      }
      return { first, count: value.size };
    }
    if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
      const { length } = value as ArrayLike<unknown>;
      const entry = (_: unknown, i: number): [number, unknown] => [i, (value as ArrayLike<unknown>)[i]];
      return { first: Array.from({ length: Math.min(length, MAX_ENTRIES) }, entry), count: length };
    }
    const names = Object.keys(value);
    const shown = names
      .slice(0, MAX_ENTRIES)
      .map(name => [name, Object.getOwnPropertyDescriptor(value, name)] as const);
    const first = shown.flatMap(([name, property]): Entries['first'] =>
      property === undefined || property.get ? [] : [[name, property.value]],
    );
    return { first, count: first.length + names.length - shown.length };
  } catch {
    return NO_ENTRIES;
  }
}
