import { toHalf } from '../../weights/elements';
import { ELEMENT_TYPES, type Initializer, type OnnxGraph, type OnnxNode } from './graph';

/** The graph with weights and values in float16, half the size. What goes in and comes out stays float32, as runtimes expect it. */
export function inHalf(graph: OnnxGraph): OnnxGraph {
  const initializers = new Map(
    [...graph.initializers].map(([name, initializer]): [string, Initializer] => {
      const { type, shape, data } = initializer;
      return [name, type === 'float32' ? { type: 'float16', shape, data: toHalf(data as Float32Array) } : initializer];
    }),
  );
  const inner = (name: string): string => `${name}_half`;
  const ends = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
  const renamed = (names: readonly string[]): string[] => names.map(name => (ends.has(name) ? inner(name) : name));
  const cast = (from: string, to: string, type: 'float16' | 'float32'): OnnxNode => ({
    op: 'Cast',
    inputs: [from],
    outputs: [to],
    attributes: { to: ELEMENT_TYPES[type] },
  });
  return {
    ...graph,
    initializers,
    nodes: [
      ...graph.inputs.map(({ name }) => cast(name, inner(name), 'float16')),
      ...graph.nodes.map(node => ({ ...node, inputs: renamed(node.inputs), outputs: renamed(node.outputs) })),
      ...graph.outputs.map(({ name }) => cast(inner(name), name, 'float32')),
    ],
  };
}
