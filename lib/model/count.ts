/**
 * Parameters and multiply-accumulates per image, by arithmetic on a configuration: no layer is built and no tensor exists. MACs are those of
 * convolutions, linear layers and the two matmuls of attention, which is what the literature calls FLOPs. `countModel` in lib/measure counts
 * again, from what the built model holds and does.
 */

export interface Count {
  params: number;
  macs: number;
  /** What fvcore adds for norms: 5 per element of a layer or group norm, 2 of a batch norm. `macs` leaves it out. */
  normOps: number;
}

/** Counts by the name of the module that owns the parameters or does the work. */
export type Counts = Map<string, Count>;

/** The sum over a module and all inside it; over the whole network by default. */
export function totalCount(counts: Counts, module = ''): Count {
  const total: Count = { params: 0, macs: 0, normOps: 0 };
  for (const [name, count] of counts) {
    if (module === '' || name === module || name.startsWith(`${module}.`)) addCount(total, count);
  }
  return total;
}

export function addCount(total: Count, count: Partial<Count>): void {
  total.params += count.params ?? 0;
  total.macs += count.macs ?? 0;
  total.normOps += count.normOps ?? 0;
}

/** The arithmetic of each layer type. `pixels` are those of the output. */
export class Tally {
  readonly counts: Counts = new Map();

  conv(name: string, from: number, to: number, kernel: number, pixels: number, bias = true): void {
    this.set(name, from * to * kernel ** 2 + (bias ? to : 0), from * to * kernel ** 2 * pixels);
  }

  depthwise(name: string, dim: number, kernel: number, pixels: number, bias = true): void {
    this.set(name, dim * kernel ** 2 + (bias ? dim : 0), dim * kernel ** 2 * pixels);
  }

  localProp(name: string, dim: number, rate: number, pixels: number): void {
    this.set(name, dim * rate ** 2 + dim, dim * pixels);
  }

  linear(name: string, from: number, to: number, tokens: number, bias = true): void {
    this.conv(name, from, to, 1, tokens, bias);
  }

  /** q kᵀ and its product with v. */
  attention(name: string, dim: number, tokens: number): void {
    this.set(name, 0, 2 * tokens ** 2 * dim);
  }

  batchNorm(name: string, dim: number, pixels: number): void {
    this.set(name, 2 * dim, 0, 2 * dim * pixels);
  }

  tokenNorm(name: string, dim: number, tokens: number): void {
    this.set(name, 2 * dim, 0, 5 * dim * tokens);
  }

  set(name: string, params: number, macs: number, normOps = 0): void {
    this.counts.set(name, { params, macs, normOps });
  }
}
