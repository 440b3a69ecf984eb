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
  const value = scaling(name, shape);
  const hash = fnv1a32(prefix + name);
  return new Float32Array(shape.reduce((a, b) => a * b, 1)).map((_, index) => value(ruleUniform(hash, index)));
}

function scaling(name: string, shape: readonly number[]): (u: number) => number {
  if (name === 'input') return u => 4 * u;
  if (name === 'target') return u => 2 * u;
  if (name.endsWith('.bias')) return u => 0.2 * u;
  if (name.endsWith('.running_mean')) return u => 0.4 * u;
  if (name.endsWith('.running_var')) return u => 1 + Math.abs(u);
  if (!name.endsWith('.weight')) throw new Error(`The fixture rule has no values for '${name}'.`);
  if (shape.length === 1) return u => 1 + 0.4 * u;
  const bound = 1.4 * Math.sqrt(3 / shape.slice(1).reduce((a, b) => a * b, 1));
  return u => u * bound;
}
