/**
 * The rule by which fixtures describe weights and inputs of any size without holding them: a value is a hash of its
 * tensor's name and its index, scaled by what the tensor is for. No random number generator, equal bits in any language.
 */

/** FNV-1a, 32 bits, of a name's UTF-8 bytes. */
export function fnv1a32(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** Uniform in [−½, ½): index and hash, mixed by murmur3's finaliser. */
export function ruleUniform(hash: number, index: number): number {
  let x = (Math.imul(index, 2654435761) + Math.imul(hash, 12345)) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32 - 0.5;
}

/** The values of the tensor `name` (hashed with `prefix` before it), row-major in PyTorch's `shape`. Throws for names the rule does not cover. */
export function ruleTensor(prefix: string, name: string, shape: readonly number[]): Float32Array {
  const { offset, factor } = scaling(name, shape);
  const isPositive = name.endsWith('.running_var');
  const hash = fnv1a32(prefix + name);
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  // Numbers rather than functions of them: the tutorial model has millions of weights.
  for (let i = 0; i < values.length; i++) {
    const u = ruleUniform(hash, i);
    values[i] = offset + factor * (isPositive ? Math.abs(u) : u);
  }
  return values;
}

function scaling(name: string, shape: readonly number[]): { offset: number; factor: number } {
  if (name === 'input') return { offset: 0, factor: 4 };
  if (name === 'target') return { offset: 0, factor: 2 };
  if (name.endsWith('.bias')) return { offset: 0, factor: 0.2 };
  if (name.endsWith('.running_mean')) return { offset: 0, factor: 0.4 };
  if (name.endsWith('.running_var')) return { offset: 1, factor: 1 };
  if (!name.endsWith('.weight')) throw new Error(`The fixture rule has no values for '${name}'.`);
  if (shape.length === 1) return { offset: 1, factor: 0.4 };
  return { offset: 0, factor: 1.4 * Math.sqrt(3 / shape.slice(1).reduce((a, b) => a * b, 1)) };
}
