/** Shares out an amount, say of memory, among tasks that run at the same time. */
export interface Budget {
  /** Resolves when that much is free, in the order of the calls; the returned function gives it back. More than there is at all is let in alone. */
  take(amount: number): Promise<() => void>;
}

export function budget(total: number): Budget {
  let used = 0;
  const waiting: { amount: number; enter(release: () => void): void }[] = [];
  const admit = (): void => {
    // Strictly first come, first served: a large task would otherwise wait for ever behind small ones.
    while (waiting.length > 0 && (used === 0 || used + waiting[0].amount <= total)) {
      const { amount, enter } = waiting.shift()!;
      used += amount;
      let held = true;
      enter(() => {
        if (!held) return;
        held = false;
        used -= amount;
        admit();
      });
    }
  };
  return {
    take: amount =>
      new Promise(enter => {
        waiting.push({ amount, enter });
        admit();
      }),
  };
}
