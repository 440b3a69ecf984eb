import { type Tensor, tf } from './tf';

/** Nested arrays and records of tensors. */
export type Tree = Tensor | readonly Tree[] | { readonly [key: string]: Tree };

/** The tensors of a tree in order (records by insertion), and a text that tells the tree's structure. */
export function flatten(tree: Tree, leaves: Tensor[] = []): { leaves: Tensor[]; structure: string } {
  const walk = (node: Tree, path: string): string => {
    if (node instanceof tf.Tensor) {
      leaves.push(node);
      return '*';
    }
    if (Array.isArray(node)) return `[${node.map((child: Tree, i) => walk(child, `${path}[${i}]`)).join()}]`;
    if (node !== null && typeof node === 'object' && Object.getPrototypeOf(node) === Object.prototype) {
      return `{${Object.entries(node)
        .map(([key, child]) => `${key}:${walk(child, `${path}.${key}`)}`)
        .join()}}`;
    }
    throw new TypeError(
      `${path || 'The value'} is ${node === null ? 'null' : typeof node}: a compiled function takes and returns tensors, and arrays and records of them.`,
    );
  };
  return { structure: walk(tree, ''), leaves };
}

/** A tree of the same structure as `like`, with other leaves. */
export function unflatten<L>(like: Tree, leaves: readonly L[]): unknown {
  let next = 0;
  const walk = (node: Tree): unknown => {
    if (node instanceof tf.Tensor) return leaves[next++];
    if (Array.isArray(node)) return node.map(walk);
    return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, walk(child as Tree)]));
  };
  return walk(like);
}
