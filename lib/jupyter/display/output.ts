/** What a module that shows things needs of the kernel that runs it. */
export interface KernelOutput {
  /** Sends a MIME bundle. With an `id` it can be shown again by `update`, in place. */
  display(data: Record<string, unknown>, options?: { id?: string; update?: boolean }): void;
  /** Empties the output of the cell; if it is to `wait`, when the next output comes. */
  clear(wait: boolean): void;
  /** The cell ends after this, and fails with it, even if nobody waits for it. */
  settle(work: Promise<unknown>): void;
  /** Aborted when the running cell is interrupted. */
  signal(): AbortSignal;
}

const KERNEL = Symbol.for('edgevit-lab.kernel'); // on globalThis, since a module that was edited loads a second time

/** The kernel that runs this process, or nothing outside a notebook. */
export function kernelOutput(): KernelOutput | undefined {
  return (globalThis as { [KERNEL]?: KernelOutput })[KERNEL];
}

export function provideKernelOutput(output: KernelOutput): void {
  (globalThis as { [KERNEL]?: KernelOutput })[KERNEL] = output;
}

/** Aborted when the running cell is interrupted, for functions of lib that take a signal; outside a notebook, never. */
export function interruption(): AbortSignal {
  return kernelOutput()?.signal() ?? new AbortController().signal;
}

/** Empties the output of the cell, at once or, if it is to `wait`, when the next output comes: what changes often does not flicker. */
export function clearOutput(wait = false): void {
  kernelOutput()?.clear(wait);
}
