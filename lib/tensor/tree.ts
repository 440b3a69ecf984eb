import { type Tensor, tf } from './tf';

/** Nested arrays and records of tensors. */
export type Tree = Tensor | readonly Tree[] | { readonly [key: string]: Tree };

/** A value that is no tensor and can't change within a graph. */
export type Static = number | boolean | string | null | undefined;

/** Nested arrays and records of tensors and static values. */
export type StaticTree = Tensor | Static | readonly StaticTree[] | { readonly [key: string]: StaticTree };

const isRecord = (node: object): boolean => {
  const prototype = Object.getPrototypeOf(node) as object | null;
  return prototype === null || Object.getPrototypeOf(prototype) === null; // another realm's Object.prototype too
};

/** `a number`, `null`, `a Map`: what a value is, for messages. */
function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  const name = (value.constructor as { name?: string } | undefined)?.name || 'object';
  return `${/^[AEIOU]/.test(name) ? 'an' : 'a'} ${name}`;
}

/** A key as it stands in a structure: quoted where it could be taken for the structure itself. */
const quoted = (key: string) => (/^[\w.]+$/.test(key) ? key : JSON.stringify(key));

/** The static values that a tree may hold beside tensors: none, those without a value, or all. */
export type Statics = 'none' | 'empty' | 'all';

function isStatic(value: unknown, statics: Statics): value is Static {
  if (value === null || value === undefined) return statics !== 'none';
  return statics === 'all' && ['number', 'boolean', 'string'].includes(typeof value);
}

/**
 * The tensors of a tree in order (records by insertion), and a text that tells the tree's structure, with its static values.
 * Throws TypeError where the tree holds anything else.
 */
export function flatten(tree: StaticTree, statics: Statics = 'none'): { leaves: Tensor[]; structure: string } {
  const leaves: Tensor[] = [];
  const walk = (node: StaticTree, path: string): string => {
    if (node instanceof tf.Tensor) {
      leaves.push(node);
      return '*';
    }
    if (isStatic(node, statics))
      return typeof node === 'string' ? JSON.stringify(node) : Object.is(node, -0) ? '-0' : String(node);
    // Array.from, because map would pass over holes.
    if (Array.isArray(node))
      return `[${Array.from(node as readonly StaticTree[], (child, i) => walk(child, `${path}[${i}]`)).join()}]`;
    if (node !== null && typeof node === 'object' && isRecord(node)) {
      return `{${Object.entries(node)
        .map(([key, child]) => `${quoted(key)}:${walk(child, `${path}.${key}`)}`)
        .join()}}`;
    }
    throw new TypeError(
      `${path || 'The value'} is ${describe(node)}: allowed are tensors${{ none: '', empty: ', null', all: ', numbers, booleans, strings, null' }[statics]}, and arrays and plain records of them.`,
    );
  };
  return { structure: walk(tree, ''), leaves };
}

/** A tree of the same structure and static values as `like`, with other leaves. */
export function unflatten<L>(like: StaticTree, leaves: readonly L[]): unknown {
  let next = 0;
  const walk = (node: StaticTree): unknown => {
    if (node instanceof tf.Tensor) return leaves[next++];
    if (Array.isArray(node)) return Array.from(node as readonly StaticTree[], walk);
    if (node === null || typeof node !== 'object') return node;
    return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, walk(child)]));
  };
  return walk(like);
}
