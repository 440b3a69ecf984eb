/** What cells have without an import, as the compiler is told of it; see `provideGlobals`. */
export const GLOBAL_TYPES = `
export {};
declare global {
  /** Runs \`work\`, prints how long it took, and gives what it gives. */
  function time<T>(work: () => T | PromiseLike<T>, label?: string): Promise<T>;
  /** Asks for a line of text; an empty one is \`otherwise\`. */
  function prompt(question?: string, otherwise?: string): string;
  /** Asks for a yes or a no; whatever is no yes is a no. */
  function confirm(question?: string): boolean;
  /** Waits until somebody has read it. */
  function alert(message?: string): void;
}
declare module 'tslab' {
  interface Display {
    js(code: string): void;
  }
  /** Empties the output of the cell; if it is to \`wait\`, when the next output comes. */
  function clearOutput(wait?: boolean): void;
}
`;

/** Makes the functions of GLOBAL_TYPES. */
export function provideGlobals(): void {
  Object.assign(globalThis, { time });
}

async function time<T>(work: () => T | PromiseLike<T>, label = 'time'): Promise<T> {
  const started = performance.now();
  const before = process.cpuUsage();
  try {
    return await work();
  } finally {
    const { user, system } = process.cpuUsage(before);
    console.log(`${label}: ${duration(performance.now() - started)} (CPU ${duration((user + system) / 1000)})`);
  }
}

function duration(milliseconds: number): string {
  if (milliseconds < 1) return `${(1000 * milliseconds).toFixed(0)} µs`;
  return milliseconds < 1000 ? `${milliseconds.toPrecision(3)} ms` : `${(milliseconds / 1000).toPrecision(3)} s`;
}
